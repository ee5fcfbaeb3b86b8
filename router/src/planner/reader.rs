//! Reading a statement by its tokens, for the grammar of commands that are plain enough.

use crate::lexer::{Token, TokenKind};

#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
}

/// `schema.name`, folded; a database before it is the current one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name<'a> {
    pub schema: Option<&'a str>,
    pub name: &'a str,
}

/// What no ColId may be (kwlist.h: RESERVED_KEYWORD and TYPE_FUNC_NAME_KEYWORD).
const RESERVED: &str = "
    all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation column
    concurrently constraint create cross current_catalog current_date current_role current_schema current_time
    current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign freeze from
    full grant group having ilike in initially inner intersect into is isnull join lateral leading left like limit localtime
    localtimestamp natural not notnull null offset on only or order outer overlaps placing primary references returning right
    select session_user similar some symmetric table tablesample then to trailing true union unique user using variadic
    verbose when where window with";

impl<'a> Reader<'a> {
    pub fn new(tokens: &'a [Token]) -> Self {
        let mut reader = Self { tokens, at: 0 };
        reader.skip_hints();
        reader
    }

    fn skip_hints(&mut self) {
        while self.tokens.get(self.at).is_some_and(|token| token.kind == TokenKind::Hint) {
            self.at += 1;
        }
    }

    pub fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    pub fn rest(&self) -> &'a [Token] {
        self.tokens.get(self.at..).unwrap_or(&[])
    }

    pub fn next(&mut self) -> Option<&'a Token> {
        let token = self.tokens.get(self.at)?;
        self.at += 1;
        self.skip_hints();
        Some(token)
    }

    pub fn at_end(&self) -> bool {
        self.peek().is_none()
    }

    /// The next token, if it is a word without quotes.
    pub fn word(&self) -> Option<&'a str> {
        self.peek().filter(|token| token.kind == TokenKind::Word).map(|token| token.text.as_str())
    }

    pub fn accept(&mut self, word: &str) -> bool {
        let found = self.word() == Some(word);
        if found {
            self.next();
        }
        found
    }

    /// All of them, one after the other, or none.
    pub fn accept_all(&mut self, words: &[&str]) -> bool {
        let before = *self;
        let all = words.iter().all(|word| self.accept(word));
        if !all {
            *self = before;
        }
        all
    }

    pub fn accept_any(&mut self, words: &[&str]) -> bool {
        words.iter().any(|word| self.accept(word))
    }

    pub fn accept_symbol(&mut self, symbol: &str) -> bool {
        let symbolic = |token: &&Token| matches!(token.kind, TokenKind::Punctuation | TokenKind::Operator);
        let found = self.peek().filter(symbolic).is_some_and(|token| token.text == symbol);
        if found {
            self.next();
        }
        found
    }

    /// One identifier.
    pub fn identifier(&mut self) -> Option<&'a str> {
        let token = self.peek().filter(|token| matches!(token.kind, TokenKind::Word | TokenKind::Quoted))?;
        self.next();
        Some(&token.text)
    }

    /// The name of a savepoint. Without quotes a word that PostgreSQL reserves is none: what says so is a server's to refuse.
    pub fn savepoint(&mut self) -> Option<&'a str> {
        if self.word().is_some_and(|word| RESERVED.split_ascii_whitespace().any(|reserved| reserved == word))
        {
            return None;
        }
        self.identifier()
    }

    /// A name with up to two qualifiers.
    pub fn name(&mut self) -> Option<Name<'a>> {
        let mut parts = vec![self.identifier()?];
        while parts.len() < 3 && self.accept_symbol(".") {
            parts.push(self.identifier()?);
        }
        match parts[..] {
            [name] => Some(Name { schema: None, name }),
            [.., schema, name] => Some(Name { schema: Some(schema), name }),
            [] => None,
        }
    }

    /// Names separated by commas.
    pub fn names(&mut self) -> Option<Vec<Name<'a>>> {
        let mut names = vec![self.name()?];
        while self.accept_symbol(",") {
            names.push(self.name()?);
        }
        Some(names)
    }

    /// What stands between parentheses, if they open here.
    pub fn parentheses(&mut self) -> Option<&'a [Token]> {
        let before = *self;
        if !self.accept_symbol("(") {
            return None;
        }
        let (start, mut depth) = (self.at, 1);
        while let Some(token) = self.peek() {
            let at = self.at;
            self.next();
            match (token.kind, token.text.as_str()) {
                (TokenKind::Punctuation, "(") => depth += 1,
                (TokenKind::Punctuation, ")") => {
                    depth -= 1;
                    if depth == 0 {
                        return Some(&self.tokens[start..at]);
                    }
                }
                _ => {}
            }
        }
        *self = before;
        None
    }
}
