//! Our tokens -> sqlparser's tree.
//!
//! Invariant: sqlparser never sees the text. It parses the tokens that `lexer` cut as PostgreSQL does, so its own lexical
//! rules cannot disagree; a position in its tree is a byte offset in the statement's text.
//!
//! Limits: trees are shallow enough to be walked and dropped on a thread's stack ([`DEPTH_MAX`]).

use sqlparser::ast::{DollarQuotedString, Statement};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Location, Span, Token as Parsed, TokenWithSpan};

use crate::lexer::{Token, TokenKind};
use crate::plan::LiteralKind;

/// Nested parentheses, and operators in one chain: `a OR b OR ...` is a tree as deep as it is long.
const DEPTH_MAX: usize = 400;

/// POSITION in POSITION: sqlparser tries two readings of each, so the time doubles with each. (The only word of its kind;
/// found by trying all of them.)
const POSITIONS_MAX: usize = 6;

/// What sqlparser's recursion counter may reach; one parenthesis takes a few.
const RECURSION_MAX: usize = 120;

/// Parses one statement.
///
/// # Errors
/// The parser's reason, as a sentence.
pub(super) fn statement(tokens: &[Token]) -> Result<Statement, String> {
    if nested_positions(tokens) > POSITIONS_MAX {
        return Err("The statement nests POSITION too deep.".to_owned());
    }
    if depth(tokens) > DEPTH_MAX {
        return Err(format!("The statement nests deeper than {DEPTH_MAX} expressions."));
    }
    let dialect = PostgreSqlDialect {};
    let mut parser = Parser::new(&dialect)
        .with_recursion_limit(RECURSION_MAX)
        .with_tokens_with_locations(translated(tokens)?);
    let statement = parser.parse_statement().map_err(|error| reason(&error.to_string()))?;
    match &parser.peek_token_ref().token {
        Parsed::EOF => Ok(statement),
        Parsed::Word(word) => {
            Err(format!("pgherd's parser does not understand it from \"{}\" on.", word.value))
        }
        _ => Err("pgherd's parser does not understand it to its end.".to_owned()),
    }
}

/// "sql parser error: Expected: X, found: Y at Line: 1, Column: 7": our columns mean nothing to the client.
fn reason(error: &str) -> String {
    let error = error.trim_start_matches("sql parser error: ");
    let error = error.split(" at Line:").next().unwrap_or(error);
    // What was found instead may be a literal, and we gave the parser none.
    let error = error.split(", found: ").next().unwrap_or(error);
    format!("pgherd's parser says: {error}.")
}

/// How many POSITION( are open at once, at most.
fn nested_positions(tokens: &[Token]) -> usize {
    let (mut open, mut now, mut most) = (Vec::new(), 0, 0);
    for (index, token) in tokens.iter().enumerate() {
        match (token.kind, token.text.as_str()) {
            (TokenKind::Punctuation, "(") => {
                let position = index > 0 && tokens[index - 1].text == "position";
                now += usize::from(position);
                most = most.max(now);
                open.push(position);
            }
            (TokenKind::Punctuation, ")") => now -= usize::from(open.pop() == Some(true)),
            _ => {}
        }
    }
    most
}

/// An upper bound of the tree's depth.
fn depth(tokens: &[Token]) -> usize {
    /// Between two parentheses.
    #[derive(Default)]
    struct Level {
        /// Operators since the last comma or clause: one tree.
        chain: usize,
        /// Set operations, joins and array brackets: one tree, whatever stands between them.
        linked: usize,
        deepest: usize,
    }
    impl Level {
        fn depth(&self) -> usize {
            self.chain.max(self.deepest) + self.linked
        }
    }
    let mut open = vec![Level::default()];
    for token in tokens {
        let last = open.len() - 1;
        let level = &mut open[last];
        match (token.kind, token.text.as_str()) {
            (TokenKind::Punctuation, "(" | "[") => {
                level.linked += usize::from(token.text == "[");
                open.push(Level::default());
            }
            (TokenKind::Punctuation, ")" | "]") if last > 0 => {
                let inner = open.pop().map_or(0, |level| level.depth()) + 2;
                let outer = &mut open[last - 1];
                outer.deepest = outer.deepest.max(outer.chain + inner);
            }
            (TokenKind::Punctuation, ",") => {
                level.deepest = level.deepest.max(level.chain);
                level.chain = 0;
            }
            (TokenKind::Operator, _) => level.chain += 1,
            (TokenKind::Word, "union" | "intersect" | "except" | "join") => level.linked += 1,
            (
                TokenKind::Word,
                "and" | "or" | "not" | "is" | "like" | "ilike" | "in" | "between" | "similar" | "at"
                | "collate" | "isnull" | "notnull" | "operator" | "case" | "xor" | "select" | "with",
            ) => level.chain += 1,
            (TokenKind::Word, "when" | "then" | "else" | "where" | "from" | "having") => {
                // What was open stays open: a CASE in a CASE.
                level.deepest = level.deepest.max(level.chain);
                level.chain = level.chain.min(OPEN_CASES);
            }
            _ => {}
        }
    }
    open.iter().map(|level| level.depth() + 1).sum()
}

/// CASE expressions that may be open in one another, at one level of parentheses, without being counted.
const OPEN_CASES: usize = 8;

fn translated(tokens: &[Token]) -> Result<Vec<TokenWithSpan>, String> {
    let mut parsed = Vec::with_capacity(tokens.len() + 4);
    // What sqlparser does not know and the tree does not need.
    let mut skipped = 0;
    for (index, token) in tokens.iter().enumerate() {
        if index < skipped {
            continue;
        }
        if overriding(&tokens[index..]).is_some() {
            skipped = index + OVERRIDING_WORDS;
            continue;
        }
        let span = Span::new(location(token.at.start), location(token.at.end));
        let mut push = |token: Parsed| parsed.push(TokenWithSpan { token, span });
        let translated = match token.kind {
            TokenKind::Hint => continue,
            TokenKind::Invalid => return Err(format!("\"{}\" is not a token of SQL.", token.text)),
            // ONLY is reserved in PostgreSQL, so it can be nothing else; the sharding of a table does not change with it.
            TokenKind::Word if token.text == "only" && before_name(tokens, index) => continue,
            // TABLE t means SELECT * FROM t.
            TokenKind::Word if token.text == "table" && index == 0 => {
                push(Parsed::make_word("select", None));
                push(Parsed::Mul);
                Parsed::make_word("from", None)
            }
            TokenKind::Word => Parsed::make_word(&token.text, None),
            TokenKind::Quoted => Parsed::make_word(&token.text, Some('"')),
            TokenKind::Param => Parsed::Placeholder(format!("${}", token.text)),
            TokenKind::Literal(kind) => literal(kind),
            TokenKind::Operator => operator(&token.text),
            TokenKind::Punctuation => match token.text.as_str() {
                "," => Parsed::Comma,
                "(" => Parsed::LParen,
                ")" => Parsed::RParen,
                "[" => Parsed::LBracket,
                "]" => Parsed::RBracket,
                "." => Parsed::Period,
                ":" => Parsed::Colon,
                _ => Parsed::SemiColon,
            },
        };
        push(translated);
    }
    Ok(parsed)
}

/// OVERRIDING SYSTEM VALUE, OVERRIDING USER VALUE
const OVERRIDING_WORDS: usize = 3;

/// Whether they begin here; `true`: USER.
pub(super) fn overriding(tokens: &[Token]) -> Option<bool> {
    let word = |index: usize, text: &str| {
        tokens.get(index).is_some_and(|token| token.kind == TokenKind::Word && token.text == text)
    };
    let user = word(1, "user");
    (word(0, "overriding") && (user || word(1, "system")) && word(2, "value")).then_some(user)
}

fn before_name(tokens: &[Token], index: usize) -> bool {
    let named = |token: &Token| {
        matches!(token.kind, TokenKind::Word | TokenKind::Quoted)
            || (token.kind == TokenKind::Punctuation && token.text == "(")
    };
    tokens.get(index + 1).is_some_and(named)
        && index > 0
        && matches!(tokens[index - 1].text.as_str(), "from" | "update" | "join" | "," | "using")
}

/// Lines count from 1; line 0 means "nowhere" to sqlparser.
fn location(offset: u32) -> Location {
    Location::new(1, u64::from(offset) + 1)
}

/// The byte offset behind a position of the tree.
pub(super) fn offset(span: Span) -> u32 {
    (span.start.column as u32).saturating_sub(1)
}

/// Only its kind and its place matter: the value is read from the text when it is needed, and a template (or an error
/// message in it) that knew a value would give it to other statements of its shape.
fn literal(kind: LiteralKind) -> Parsed {
    match kind {
        LiteralKind::Integer => Parsed::Number("1".to_owned(), false),
        LiteralKind::Numeric => Parsed::Number("1.5".to_owned(), false),
        LiteralKind::String => Parsed::SingleQuotedString(String::new()),
        LiteralKind::EscapeString => Parsed::EscapedStringLiteral(String::new()),
        LiteralKind::DollarString => {
            Parsed::DollarQuotedString(DollarQuotedString { value: String::new(), tag: None })
        }
        LiteralKind::OtherString => Parsed::NationalStringLiteral(String::new()),
    }
}

fn operator(text: &str) -> Parsed {
    match text {
        "=" => Parsed::Eq,
        "<>" | "!=" => Parsed::Neq,
        "<" => Parsed::Lt,
        ">" => Parsed::Gt,
        "<=" => Parsed::LtEq,
        ">=" => Parsed::GtEq,
        "+" => Parsed::Plus,
        "-" => Parsed::Minus,
        "*" => Parsed::Mul,
        "/" => Parsed::Div,
        "%" => Parsed::Mod,
        "^" => Parsed::Caret,
        "||" => Parsed::StringConcat,
        "::" => Parsed::DoubleColon,
        ":=" => Parsed::Assignment,
        "=>" => Parsed::RArrow,
        "&" => Parsed::Ampersand,
        "|" => Parsed::Pipe,
        "#" => Parsed::Sharp,
        "~" => Parsed::Tilde,
        "~*" => Parsed::TildeAsterisk,
        "!~" => Parsed::ExclamationMarkTilde,
        "!~*" => Parsed::ExclamationMarkTildeAsterisk,
        "~~" => Parsed::DoubleTilde,
        "~~*" => Parsed::DoubleTildeAsterisk,
        "!~~" => Parsed::ExclamationMarkDoubleTilde,
        "!~~*" => Parsed::ExclamationMarkDoubleTildeAsterisk,
        "<<" => Parsed::ShiftLeft,
        ">>" => Parsed::ShiftRight,
        "&&" => Parsed::Overlap,
        "^@" => Parsed::CaretAt,
        "->" => Parsed::Arrow,
        "->>" => Parsed::LongArrow,
        "#>" => Parsed::HashArrow,
        "#>>" => Parsed::HashLongArrow,
        "@>" => Parsed::AtArrow,
        "<@" => Parsed::ArrowAt,
        "#-" => Parsed::HashMinus,
        "@?" => Parsed::AtQuestion,
        "@@" => Parsed::AtAt,
        "?" => Parsed::Question,
        "?&" => Parsed::QuestionAnd,
        "?|" => Parsed::QuestionPipe,
        "@" => Parsed::AtSign,
        "|/" => Parsed::PGSquareRoot,
        "||/" => Parsed::PGCubeRoot,
        _ => Parsed::CustomBinaryOperator(text.to_owned()),
    }
}
