use super::*;

fn cuts(sql: &str) -> Vec<String> {
    let (seeds, mut literals, mut from, mut found) = (Seeds::default(), Vec::new(), 0, Vec::new());
    while let Some(cut) = fingerprint(&seeds, sql, from, &mut literals) {
        found.push(sql[cut.at.start as usize..cut.at.end as usize].to_owned());
        from = cut.next;
    }
    found
}

fn shown(sql: &str) -> String {
    let show = |token: &Token| match token.kind {
        TokenKind::Word => token.text.clone(),
        TokenKind::Quoted => format!("<{}>", token.text),
        TokenKind::Param => format!("${}", token.text),
        TokenKind::Literal(LiteralKind::Integer) => "int".into(),
        TokenKind::Literal(LiteralKind::Numeric) => "num".into(),
        TokenKind::Literal(LiteralKind::OtherString) => "other".into(),
        TokenKind::Literal(kind) => {
            String::from_utf8(string_value(&token.text, kind).unwrap_or(b"?".to_vec()))
                .map(|text| format!("'{text}'"))
                .unwrap()
        }
        TokenKind::Operator | TokenKind::Punctuation => token.text.clone(),
        TokenKind::Hint => "hint".into(),
        TokenKind::Invalid => "invalid".into(),
    };
    tokens(sql).iter().map(show).collect::<Vec<_>>().join(" ")
}

#[test]
fn tokens_are_cut_where_postgresql_cuts_them() {
    let cases = [
        ("words fold, quoted names do not", r#"SELECT Foo, "Foo""Bar""#, r#"select foo , <Foo"Bar>"#),
        ("U& names", r#"U&"ab" u&"a\0062""#, "<ab> invalid"),
        ("an empty name is an error", r#"a"" b"#, "a invalid b"),
        ("not ASCII is a letter", "SELECT größe", "select größe"),
        ("doubled quotes", "'it''s'", "'it's'"),
        ("a backslash is a character", r"'a\' b", r"'a\' b"),
        ("E strings escape", r"E'a\'b\n' c", "'a'b\n' c"),
        ("an escape that is not worth reading", r"e'\x41'", "'?'"),
        ("continued over a newline", "'a' -- x\n  'b'", "'ab'"),
        ("not continued without one", "'a' 'b'", "'a' 'b'"),
        ("not continued after a block comment", "'a' /*\n*/ 'b'", "'a' 'b'"),
        ("dollar quotes", "$$a'b$$ $x$ $$ $x$", "'a'b' ' $$ '"),
        ("a parameter is not a dollar quote", "$1$2", "$1 $2"),
        ("parameter with junk", "$1a", "invalid"),
        ("dollar in a name", "a$1 b$$", "a$1 b$$"),
        ("bit, hex, national, unicode", "b'1' X'f' n'a' U&'a'", "other other other other"),
        ("numbers", "1 1.5 .5 1. 1e3 1E-3 1.5e+3", "int num num num num num num"),
        ("ranges of numbers", "1..10", "int .. int"),
        ("junk after a number", "1a 1OR 1e", "invalid invalid invalid"),
        ("bases and underscores of PostgreSQL 16", "0x1F 0b1 0o7 1_000", "num num num num"),
        ("a name after a point", "a.b .5 t.1", "a . b num t num"),
        ("operators are longest", "a<=b a<@b a||b a->>'x'", "a <= b a <@ b a || b a ->> 'x'"),
        (
            "a trailing sign is not part of them",
            "a=-1 a<>-1 a@-1 a*-b",
            "a = - int a <> - int a @- int a * - b",
        ),
        ("comments end operators", "a*/*x*/b a+--x\nb", "a * b a + b"),
        ("a cast", "'1'::int a[1:2] b:=1", "'1' :: int a [ int : int ] b := int"),
        ("nested comments", "a /* b /* c */ d */ e", "a e"),
        ("a hint stays", "/* pgherd: shard=s1 */ a /*pgherd:x*/", "hint a hint"),
        ("unterminated", "a 'b", "a invalid"),
        ("unterminated comment", "a /* b", "a invalid"),
        ("unterminated dollar", "a $x$ b", "a invalid"),
        ("a stray character", r"a \ b {", "a invalid b invalid"),
    ];
    for (why, sql, expected) in cases {
        assert_eq!(shown(sql), expected, "{why}: {sql}");
    }
}

#[test]
fn a_text_is_cut_into_statements_where_psql_cuts_it() {
    let atomic =
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 1 END; END";
    let replaced = "create or replace procedure p() begin atomic select 1; end";
    let both = format!("{atomic}; {replaced}; SELECT 2");
    let cases: &[(&str, &str, &[&str])] = &[
        ("one", "SELECT 1;", &["SELECT 1"]),
        ("two", " SELECT 1 ; SELECT 2 -- x\n", &["SELECT 1", "SELECT 2"]),
        ("none", " ; -- x\n ;; /* */", &[]),
        ("a semicolon in a string", "SELECT ';'; SELECT $$;$$", &["SELECT ';'", "SELECT $$;$$"]),
        ("in a name", "SELECT \";\"", &["SELECT \";\""]),
        (
            "in parentheses",
            "CREATE RULE r AS ON INSERT TO a DO (b; c); d",
            &["CREATE RULE r AS ON INSERT TO a DO (b; c)", "d"],
        ),
        ("in a function body", &both, &[atomic, replaced, "SELECT 2"]),
        ("BEGIN alone is no body", "BEGIN; SELECT 1; END; ATOMIC", &["BEGIN", "SELECT 1", "END", "ATOMIC"]),
        ("CREATE TABLE has no body", "CREATE TABLE begin (a int); x", &["CREATE TABLE begin (a int)", "x"]),
    ];
    for (why, sql, expected) in cases {
        assert_eq!(cuts(sql), *expected, "{why}: {sql}");
    }
}

#[test]
fn a_fingerprint_forgets_values_and_spelling_and_nothing_else() {
    let seeds = Seeds::default();
    let print = |sql: &str| fingerprint(&seeds, sql, 0, &mut Vec::new()).unwrap().fingerprint;
    let same = [
        ("values", "SELECT a FROM t WHERE b = 1", "SELECT a FROM t WHERE b = 23456"),
        ("case and space", "SELECT a FROM t", "select /* x */ A\n from  T -- y"),
        ("a point stands alone", "a . b", "a.b"),
        ("the end", "SELECT 1", "SELECT 1 ; "),
    ];
    for (why, left, right) in same {
        assert_eq!(print(left), print(right), "{why}: {left} / {right}");
    }
    let different = [
        ("kinds of values", "SELECT 1", "SELECT '1'"),
        ("kinds of numbers", "SELECT 1", "SELECT 1.0"),
        ("kinds of strings", "SELECT E'a'", "SELECT 'a'"),
        ("a sign", "SELECT 1", "SELECT -1"),
        ("parameters", "SELECT $1", "SELECT $2"),
        ("parameter against literal", "SELECT $1", "SELECT 1"),
        ("quoting", "SELECT a", "SELECT \"a\""),
        ("quoted case", "SELECT \"a\"", "SELECT \"A\""),
        ("words against one word", "SELECT a b", "SELECT ab"),
        ("operators against one operator", "a < > b", "a <> b"),
        ("hints", "/* pgherd: shard=s0 */ SELECT 1", "/* pgherd: shard=s1 */ SELECT 1"),
        ("a prefix", "SELECT a", "SELECT a, b"),
        ("a quoted name that looks like tokens", "SELECT \"a\" \"b\"", "SELECT \"a\"\"b\""),
    ];
    for (why, left, right) in different {
        assert_ne!(print(left), print(right), "{why}: {left} / {right}");
    }
}

#[test]
fn literals_are_found_relative_to_their_statement() {
    let sql = "SELECT 1; SELECT -25, 'x''y' , $$z$$";
    let (seeds, mut literals) = (Seeds::default(), Vec::new());
    let first = fingerprint(&seeds, sql, 0, &mut literals).unwrap();
    let second = fingerprint(&seeds, sql, first.next, &mut literals).unwrap();
    let text = &sql[second.at.start as usize..second.at.end as usize];
    let found: Vec<&str> =
        literals.iter().map(|literal| &text[literal.at.start as usize..literal.at.end as usize]).collect();
    assert_eq!(found, ["25", "'x''y'", "$$z$$"]);
}

#[test]
fn any_bytes_are_cut_without_a_panic_and_tokens_agree_with_fingerprints() {
    let pieces = [
        "'", "\"", "$", "$$", "$a$", "--", "/*", "*/", "\n", "1", ".", "e", "E'", "U&\"", "\\", ";", "ü",
        "0x",
    ];
    let mut state = 7u64;
    for _ in 0..20_000 {
        let mut sql = String::new();
        for _ in 0..8 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            sql.push_str(pieces[(state >> 33) as usize % pieces.len()]);
        }
        let (seeds, mut literals) = (Seeds::default(), Vec::new());
        if let Some(cut) = fingerprint(&seeds, &sql, 0, &mut literals) {
            let text = &sql[cut.at.start as usize..cut.at.end as usize];
            let of_tokens = tokens(text)
                .into_iter()
                .filter(|token| matches!(token.kind, TokenKind::Literal(_)))
                .map(|token| token.at)
                .collect::<Vec<_>>();
            let of_fingerprint = literals.iter().map(|literal| literal.at.clone()).collect::<Vec<_>>();
            assert_eq!(of_tokens, of_fingerprint, "{sql}");
            for token in tokens(text) {
                if let TokenKind::Literal(kind) = token.kind {
                    string_value(&token.text, kind);
                }
            }
        }
    }
}
