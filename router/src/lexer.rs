//! PostgreSQL's lexical rules: where the tokens of a statement text are, and nothing about what they mean.
//!
//! Invariant: a text is cut into tokens and statements exactly where PostgreSQL's scanner (`scan.l`, with
//! `standard_conforming_strings = on`) and psql cut it. Where versions of PostgreSQL differ, or the scanner would
//! report an error, the token is [`TokenKind::Invalid`] and nothing is guessed from it.
//!
//! Two readers share one scanner: [`fingerprint`] runs for every statement and allocates nothing; [`tokens`] runs once
//! for each new fingerprint and is comfortable.
//!
//! Limits: a text is shorter than 4 GiB (positions are `u32`; the wire's own limit is 1 GiB).

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::ops::Range;

use crate::plan::{Literal, LiteralKind};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// An identifier or keyword without quotes.
    Word,
    /// "..." or U&"..."
    Quoted,
    /// $1
    Param,
    Literal(LiteralKind),
    /// A run of operator characters, already cut as PostgreSQL cuts it; also `:=`, `::` and `..`.
    Operator,
    /// One of `, ( ) [ ] . : ;`
    Punctuation,
    /// `/* pgherd: ... */`
    Hint,
    /// What PostgreSQL's scanner refuses (in some version at least), or never ends.
    Invalid,
}

const OTHER: u8 = 0;
const SPACE: u8 = 1;
const WORD: u8 = 2;
const DIGIT: u8 = 3;
const OPERATOR: u8 = 4;
const PUNCTUATION: u8 = 5;

/// What a byte may begin.
static CLASS: [u8; 256] = {
    let mut class = [OTHER; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte as u8 {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => SPACE,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..=0xff => WORD,
            b'0'..=b'9' => DIGIT,
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'+' | b'-' | b'*' | b'/'
            | b'%' | b'<' | b'>' | b'=' => OPERATOR,
            b',' | b'(' | b')' | b'[' | b']' | b'.' | b':' | b';' => PUNCTUATION,
            _ => OTHER,
        };
        byte += 1;
    }
    class
};

fn class(byte: u8) -> u8 {
    CLASS[byte as usize]
}

fn in_word(byte: u8) -> bool {
    matches!(class(byte), WORD | DIGIT) || byte == b'$'
}

/// The scanner: one token after the other, white space and ordinary comments skipped.
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// Kind and start of the next token; it ends at `self.at`.
    fn next(&mut self) -> Option<(TokenKind, usize)> {
        loop {
            let start = self.at;
            let byte = *self.text.get(start)?;
            let kind = match class(byte) {
                SPACE => {
                    self.at += 1;
                    continue;
                }
                WORD => self.word(byte),
                DIGIT => self.number(),
                OPERATOR => match (byte, self.peek(1)) {
                    (b'-', b'-') => {
                        self.line_comment();
                        continue;
                    }
                    (b'/', b'*') => match self.block_comment() {
                        Some(kind) => kind,
                        None => continue,
                    },
                    _ => self.operator(),
                },
                PUNCTUATION => self.punctuation(byte),
                _ => match byte {
                    b'\'' => self.string(LiteralKind::String, false),
                    b'"' => self.quoted(),
                    b'$' => self.dollar(),
                    _ => {
                        self.at += 1;
                        TokenKind::Invalid
                    }
                },
            };
            return Some((kind, start));
        }
    }

    fn word(&mut self, first: u8) -> TokenKind {
        let second = self.peek(1);
        if second == b'\'' || (second == b'&' && matches!(first, b'u' | b'U')) {
            match first {
                b'e' | b'E' => {
                    self.at += 1;
                    return self.string(LiteralKind::EscapeString, true);
                }
                b'b' | b'B' | b'x' | b'X' | b'n' | b'N' => {
                    self.at += 1;
                    return self.string(LiteralKind::OtherString, false);
                }
                b'u' | b'U' if self.peek(2) == b'\'' => {
                    self.at += 2;
                    return self.string(LiteralKind::OtherString, false);
                }
                b'u' | b'U' if self.peek(2) == b'"' => {
                    self.at += 2;
                    return self.quoted();
                }
                _ => {}
            }
        }
        self.skip_word();
        TokenKind::Word
    }

    fn skip_word(&mut self) {
        while self.at < self.text.len() && in_word(self.text[self.at]) {
            self.at += 1;
        }
    }

    fn digits(&mut self) {
        while self.peek(0).is_ascii_digit() {
            self.at += 1;
        }
    }

    fn number(&mut self) -> TokenKind {
        if self.peek(0) == b'0' && matches!(self.peek(1), b'x' | b'X' | b'o' | b'O' | b'b' | b'B') {
            return self.based_number();
        }
        self.digits();
        if self.peek(0) == b'.' && self.peek(1) != b'.' {
            self.at += 1;
            return self.fraction();
        }
        self.exponent(LiteralKind::Integer)
    }

    /// 0x1F, 0o17, 0b1: since PostgreSQL 16; an error before.
    fn based_number(&mut self) -> TokenKind {
        self.at += 2;
        let digits = self.at;
        self.skip_word();
        if self.at == digits { TokenKind::Invalid } else { TokenKind::Literal(LiteralKind::Numeric) }
    }

    /// After the point.
    fn fraction(&mut self) -> TokenKind {
        self.digits();
        self.exponent(LiteralKind::Numeric)
    }

    fn exponent(&mut self, without: LiteralKind) -> TokenKind {
        let mut kind = without;
        if matches!(self.peek(0), b'e' | b'E') {
            let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
            if self.peek(1 + sign).is_ascii_digit() {
                self.at += 1 + sign;
                self.digits();
                kind = LiteralKind::Numeric;
            }
        }
        match self.peek(0) {
            // 1_000: a number since PostgreSQL 16; an error, or 1 with an alias, before.
            b'_' if self.peek(1).is_ascii_digit() => {
                while self.peek(0) == b'_' || self.peek(0).is_ascii_digit() {
                    self.at += 1;
                }
                if self.peek(0) == b'.' && self.peek(1) != b'.' || in_word(self.peek(0)) {
                    self.junk()
                } else {
                    TokenKind::Literal(LiteralKind::Numeric)
                }
            }
            // "trailing junk after numeric literal" since PostgreSQL 15; two tokens before.
            next if class(next) == WORD => self.junk(),
            _ => TokenKind::Literal(kind),
        }
    }

    fn junk(&mut self) -> TokenKind {
        self.skip_word();
        TokenKind::Invalid
    }

    fn operator(&mut self) -> TokenKind {
        let start = self.at;
        let mut end = start;
        while end < self.text.len() && class(self.text[end]) == OPERATOR {
            let pair = (self.text[end], self.text.get(end + 1).copied().unwrap_or(0));
            if end > start && matches!(pair, (b'-', b'-') | (b'/', b'*')) {
                break;
            }
            end += 1;
        }
        // A trailing + or - belongs to what follows, unless the operator has a character that the standard's have not.
        let odd =
            |byte: &u8| matches!(byte, b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'%');
        if end - start > 1 && !self.text[start..end].iter().any(odd) {
            while end - start > 1 && matches!(self.text[end - 1], b'+' | b'-') {
                end -= 1;
            }
        }
        self.at = end;
        TokenKind::Operator
    }

    fn punctuation(&mut self, byte: u8) -> TokenKind {
        match (byte, self.peek(1)) {
            (b'.', next) if next.is_ascii_digit() => {
                self.at += 1;
                self.fraction()
            }
            (b'.', b'.') | (b':', b':') | (b':', b'=') => {
                self.at += 2;
                TokenKind::Operator
            }
            _ => {
                self.at += 1;
                TokenKind::Punctuation
            }
        }
    }

    fn dollar(&mut self) -> TokenKind {
        if self.peek(1).is_ascii_digit() {
            self.at += 1;
            self.digits();
            if class(self.peek(0)) == WORD {
                return self.junk();
            }
            return TokenKind::Param;
        }
        let start = self.at;
        let mut end = start + 1;
        if end < self.text.len() && class(self.text[end]) == WORD {
            while end < self.text.len() && matches!(class(self.text[end]), WORD | DIGIT) {
                end += 1;
            }
        }
        if self.text.get(end) != Some(&b'$') {
            self.at = start + 1;
            return TokenKind::Invalid;
        }
        let tag = &self.text[start..=end];
        match memchr::memmem::find(&self.text[end + 1..], tag) {
            Some(offset) => {
                self.at = end + 1 + offset + tag.len();
                TokenKind::Literal(LiteralKind::DollarString)
            }
            None => self.unterminated(),
        }
    }

    fn unterminated(&mut self) -> TokenKind {
        self.at = self.text.len();
        TokenKind::Invalid
    }

    /// At the opening quote.
    fn string(&mut self, kind: LiteralKind, escapes: bool) -> TokenKind {
        loop {
            self.at += 1;
            loop {
                let rest = &self.text[self.at..];
                let stop =
                    if escapes { memchr::memchr2(b'\'', b'\\', rest) } else { memchr::memchr(b'\'', rest) };
                let Some(offset) = stop else { return self.unterminated() };
                self.at += offset;
                if self.text[self.at] == b'\\' {
                    self.at += 2;
                    if self.at >= self.text.len() {
                        return self.unterminated();
                    }
                } else if self.peek(1) == b'\'' {
                    self.at += 2;
                } else {
                    self.at += 1;
                    break;
                }
            }
            // A string goes on after white space (and comments) that contains a newline.
            match self.continuation() {
                Some(quote) => self.at = quote,
                None => return TokenKind::Literal(kind),
            }
        }
    }

    /// Where the next part of a string opens, if one follows.
    fn continuation(&self) -> Option<usize> {
        let mut at = self.at;
        let mut newline = false;
        loop {
            match self.text.get(at)? {
                b'\n' | b'\r' => {
                    newline = true;
                    at += 1;
                }
                byte if class(*byte) == SPACE => at += 1,
                b'-' if self.text.get(at + 1) == Some(&b'-') => {
                    at = memchr::memchr2(b'\n', b'\r', &self.text[at..]).map(|offset| at + offset)?;
                }
                b'\'' if newline => return Some(at),
                _ => return None,
            }
        }
    }

    /// At the opening double quote.
    fn quoted(&mut self) -> TokenKind {
        let open = self.at;
        self.at += 1;
        loop {
            match memchr::memchr(b'"', &self.text[self.at..]) {
                None => return self.unterminated(),
                Some(offset) => {
                    self.at += offset + 1;
                    if self.peek(0) == b'"' {
                        self.at += 1;
                    } else if self.at == open + 2 {
                        return TokenKind::Invalid;
                    } else {
                        return TokenKind::Quoted;
                    }
                }
            }
        }
    }

    fn line_comment(&mut self) {
        let rest = &self.text[self.at..];
        self.at += memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
    }

    /// `None`: an ordinary comment, skipped.
    fn block_comment(&mut self) -> Option<TokenKind> {
        let start = self.at;
        self.at += 2;
        let mut depth = 1;
        while depth > 0 {
            let Some(offset) = memchr::memchr2(b'*', b'/', &self.text[self.at..]) else {
                return Some(self.unterminated());
            };
            self.at += offset;
            match (self.text[self.at], self.peek(1)) {
                (b'*', b'/') => {
                    depth -= 1;
                    self.at += 2;
                }
                (b'/', b'*') => {
                    depth += 1;
                    self.at += 2;
                }
                _ => self.at += 1,
            }
        }
        let inside = self.text[start + 2..self.at - 2].trim_ascii_start();
        inside.starts_with(b"pgherd:").then_some(TokenKind::Hint)
    }
}

/// Secret numbers of this process: without them nobody can make two texts meet in one fingerprint.
#[derive(Debug, Clone)]
pub struct Seeds([u64; 2]);

const PRIME: u64 = (1 << 61) - 1;

impl Default for Seeds {
    fn default() -> Self {
        let random = |salt: u64| {
            // std's own source of keys: SipHash with keys from the operating system.
            let mut hasher = RandomState::new().build_hasher();
            hasher.write_u64(salt);
            hasher.finish() % (PRIME - 2) + 2
        };
        Self([random(1), random(2)])
    }
}

/// The normalised text as a polynomial modulo 2^61 - 1, at two secret points.
///
/// Two different texts of n words of 7 bytes collide with a probability of at most (n / 2^61)^2, whoever chose them.
struct Digest<'a> {
    seeds: &'a Seeds,
    sums: [u64; 2],
    word: u64,
    filled: u32,
    length: u64,
}

impl<'a> Digest<'a> {
    fn new(seeds: &'a Seeds) -> Self {
        Self { seeds, sums: [0, 0], word: 0, filled: 0, length: 0 }
    }

    #[inline]
    fn byte(&mut self, byte: u8) {
        self.word |= u64::from(byte) << self.filled;
        self.filled += 8;
        if self.filled == 56 {
            self.absorb();
        }
    }

    #[inline]
    fn absorb(&mut self) {
        for (sum, seed) in self.sums.iter_mut().zip(self.seeds.0) {
            let product = u128::from(*sum + self.word) * u128::from(seed);
            // Twice: then the sum is below 2^61 + 4, whatever it was.
            let folded = (product as u64 & PRIME) + (product >> 61) as u64;
            *sum = (folded & PRIME) + (folded >> 61);
        }
        self.length += 1;
        self.word = 0;
        self.filled = 0;
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.byte(*byte);
        }
    }

    fn folded(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.byte(byte.to_ascii_lowercase());
        }
    }

    /// Bytes that could contain anything: their length goes first.
    fn counted(&mut self, bytes: &[u8]) {
        self.bytes(&(bytes.len() as u32).to_le_bytes());
        self.bytes(bytes);
    }

    fn finish(mut self) -> u128 {
        let tail = self.filled;
        self.absorb();
        self.word = self.length << 8 | u64::from(tail);
        self.absorb();
        u128::from(self.sums[0]) << 64 | u128::from(self.sums[1])
    }
}

// One byte before each token, so that no two token sequences have the same digest input. None of them is part of a word,
// a parameter or an operator.
const TAG_WORD: u8 = 1;
const TAG_QUOTED: u8 = 2;
const TAG_PARAM: u8 = 3;
const TAG_HINT: u8 = 5;
const TAG_INVALID: u8 = 6;
const TAG_LITERAL: u8 = 16;

/// One statement of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// From its first token (or hint) to its last; without the semicolon.
    pub at: Range<u32>,
    pub fingerprint: u128,
    /// Where to look for the next one.
    pub next: usize,
}

/// Cuts the next non-empty statement from `sql` at `from`; fills `literals` with its literals, relative to its start.
pub fn fingerprint(seeds: &Seeds, sql: &str, from: usize, literals: &mut Vec<Literal>) -> Option<Cut> {
    literals.clear();
    let mut scanner = Scanner { text: sql.as_bytes(), at: from };
    let mut digest = Digest::new(seeds);
    let mut span: Option<Range<usize>> = None;
    let mut depth = 0u32;
    let mut body = Body::default();
    while let Some((kind, start)) = scanner.next() {
        let text = &scanner.text[start..scanner.at];
        match kind {
            TokenKind::Word => {
                digest.byte(TAG_WORD);
                digest.folded(text);
                if depth == 0 {
                    body.word(text);
                }
            }
            TokenKind::Punctuation => {
                match text[0] {
                    b';' if depth == 0 && body.depth == 0 => match span {
                        None => continue,
                        Some(_) => break,
                    },
                    b'(' => depth += 1,
                    b')' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                digest.byte(text[0]);
            }
            TokenKind::Operator => digest.bytes(text),
            TokenKind::Literal(kind) => {
                digest.byte(TAG_LITERAL + kind as u8);
                let first = span.as_ref().map_or(start, |span| span.start);
                literals.push(Literal { at: (start - first) as u32..(scanner.at - first) as u32, kind });
            }
            TokenKind::Quoted => {
                digest.byte(TAG_QUOTED);
                digest.counted(text);
            }
            TokenKind::Param => {
                digest.byte(TAG_PARAM);
                digest.bytes(&text[1..]);
            }
            TokenKind::Hint => {
                digest.byte(TAG_HINT);
                digest.counted(text);
            }
            TokenKind::Invalid => {
                digest.byte(TAG_INVALID);
                digest.counted(text);
            }
        }
        // Two tokens in a row are not one: "a . b" is "a.b", but "< >" is not "<>".
        if matches!(kind, TokenKind::Operator) {
            digest.byte(b' ');
        }
        span = Some(span.map_or(start, |span| span.start)..scanner.at);
    }
    let span = span?;
    Some(Cut { at: span.start as u32..span.end as u32, fingerprint: digest.finish(), next: scanner.at })
}

/// Semicolons inside `CREATE FUNCTION ... BEGIN ATOMIC ... END` do not end it. As in psql, which decides for its users.
#[derive(Default)]
struct Body {
    words: u32,
    routine: bool,
    begin: bool,
    /// BEGIN ATOMIC and CASE not yet ended.
    depth: u32,
}

impl Body {
    #[inline]
    fn word(&mut self, word: &[u8]) {
        self.words += 1;
        if self.words <= 4 {
            match self.words {
                1 => self.routine = word.eq_ignore_ascii_case(b"create"),
                _ if !self.routine => {}
                2 | 4 if is_routine(word) => self.words = 5,
                2 if word.eq_ignore_ascii_case(b"or") => {}
                3 if word.eq_ignore_ascii_case(b"replace") => {}
                _ => self.routine = false,
            }
            return;
        }
        if !self.routine {
            return;
        }
        if self.depth == 0 {
            if self.begin && word.eq_ignore_ascii_case(b"atomic") {
                self.depth = 1;
            }
            self.begin = word.eq_ignore_ascii_case(b"begin");
        } else if word.eq_ignore_ascii_case(b"case") {
            self.depth += 1;
        } else if word.eq_ignore_ascii_case(b"end") {
            self.depth -= 1;
        }
    }
}

fn is_routine(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"function") || word.eq_ignore_ascii_case(b"procedure")
}

/// A token with its meaning at hand, for the slow path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub kind: TokenKind,
    /// In the statement's own text.
    pub at: Range<u32>,
    /// A word folded to lower case, a quoted name as it is in the catalog, a parameter's digits, else the text itself.
    pub text: String,
}

/// The tokens of one statement.
pub fn tokens(sql: &str) -> Vec<Token> {
    let mut scanner = Scanner { text: sql.as_bytes(), at: 0 };
    let mut found = Vec::new();
    while let Some((mut kind, start)) = scanner.next() {
        // The scanner stops between characters only: everything that ends a token is ASCII, except an invalid byte,
        // and bytes above 127 are letters.
        let raw = sql.get(start..scanner.at).unwrap_or("");
        let text = match kind {
            TokenKind::Word => truncated(raw.to_ascii_lowercase()),
            TokenKind::Quoted if raw.starts_with('"') => {
                truncated(raw[1..raw.len() - 1].replace("\"\"", "\""))
            }
            TokenKind::Quoted => match unicode_name(raw) {
                Some(name) => truncated(name),
                None => {
                    kind = TokenKind::Invalid;
                    raw.to_owned()
                }
            },
            TokenKind::Param => raw[1..].to_owned(),
            TokenKind::Literal(_)
            | TokenKind::Operator
            | TokenKind::Punctuation
            | TokenKind::Hint
            | TokenKind::Invalid => raw.to_owned(),
        };
        found.push(Token { kind, at: start as u32..scanner.at as u32, text });
    }
    found
}

/// PostgreSQL's NAMEDATALEN, without the byte that ends the name.
const NAME_MAX: usize = 63;

/// A longer name is the name that is left when PostgreSQL has cut it.
fn truncated(mut name: String) -> String {
    if name.len() > NAME_MAX {
        name.truncate((0..=NAME_MAX).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0));
    }
    name
}

/// U&"..." without escapes. With escapes (or UESCAPE) it is not worth reading: the statement is refused or PostgreSQL's.
fn unicode_name(raw: &str) -> Option<String> {
    let inside = raw.get(3..raw.len().checked_sub(1)?)?;
    (!inside.contains('\\')).then(|| inside.replace("\"\"", "\""))
}

/// The value of a string literal as PostgreSQL reads it.
///
/// `None` for what is not worth reading here: bit strings, U& strings, escapes that depend on an encoding.
pub fn string_value(raw: &str, kind: LiteralKind) -> Option<Vec<u8>> {
    match kind {
        LiteralKind::Integer | LiteralKind::Numeric | LiteralKind::OtherString => None,
        LiteralKind::DollarString => {
            let tag = raw[1..].find('$')? + 2;
            Some(raw.get(tag..raw.len() - tag)?.as_bytes().to_vec())
        }
        LiteralKind::String => {
            let inside = raw.get(1..raw.len() - 1)?;
            if !inside.contains('\'') {
                return Some(inside.as_bytes().to_vec());
            }
            unquoted(raw.as_bytes(), false)
        }
        LiteralKind::EscapeString => unquoted(&raw.as_bytes()[1..], true),
    }
}

/// All parts of a string that may go on over several lines.
fn unquoted(raw: &[u8], escapes: bool) -> Option<Vec<u8>> {
    let mut value = Vec::with_capacity(raw.len());
    let mut at = 0;
    while at < raw.len() {
        at += 1; // the opening quote
        loop {
            match *raw.get(at)? {
                b'\'' if raw.get(at + 1) == Some(&b'\'') => {
                    value.push(b'\'');
                    at += 2;
                }
                b'\'' => {
                    at += 1;
                    break;
                }
                b'\\' if escapes => {
                    let escaped = *raw.get(at + 1)?;
                    value.push(match escaped {
                        b'n' => b'\n',
                        b't' => b'\t',
                        b'r' => b'\r',
                        b'b' => 8,
                        b'f' => 12,
                        b'\\' | b'\'' | b'"' | b'/' => escaped,
                        // Octal, hexadecimal, Unicode, and what is an error.
                        _ => return None,
                    });
                    at += 2;
                }
                byte => {
                    value.push(byte);
                    at += 1;
                }
            }
        }
        // Between two parts there are spaces, newlines and comments only.
        let rest = Scanner { text: raw, at };
        match rest.continuation() {
            Some(quote) => at = quote,
            None => break,
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests;
