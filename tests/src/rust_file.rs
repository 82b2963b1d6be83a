//! A Rust file as its tokens tell it: which paths it names, and what it holds outside its tests.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A Rust file.
#[derive(Clone)]
pub struct RustFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    tokens: TokenStream,
}

impl fmt::Debug for RustFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RustFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl RustFile {
    /// Reads a file.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be read, or is not Rust.
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::parse(path, text)
    }

    /// Reads a text as that of the file at `path`.
    ///
    /// # Panics
    ///
    /// Panics if it is not Rust.
    pub fn parse(path: &Path, text: String) -> Self {
        let tokens = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path: path.to_owned(), text, tokens }
    }

    /// Whether the whole file is a test: of a crate's `tests`, or a `…_tests.rs` beside what it tests.
    pub fn is_test(&self) -> bool {
        let name = self.path.file_stem().unwrap_or_default().to_string_lossy();
        name.ends_with("_tests") || self.path.components().any(|part| part.as_os_str() == "tests")
    }

    /// Every path of two segments or more that it names outside its tests, imports written out: `use a::{b, c::d};`
    /// gives `a::b` and `a::c::d`.
    pub fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        read_paths(&without_tests(self.tokens.clone()), &mut found);
        found
    }

    /// Every word that it uses outside its tests.
    pub fn words(&self) -> Vec<String> {
        let mut found = Vec::new();
        read_words(&without_tests(self.tokens.clone()), &mut found);
        found
    }

    /// The attributes of its items, tests and all, as text without spaces: `allow(dead_code)`.
    pub fn attributes(&self) -> Vec<String> {
        let mut found = Vec::new();
        read_attributes(self.tokens.clone(), &mut found);
        found
    }
}

/// The tokens without what stands under `#[cfg(test)]` or `#[test]`.
fn without_tests(tokens: TokenStream) -> Vec<TokenTree> {
    let mut kept = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let is_hash = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '#');
        let is_test = match tokens.peek() {
            Some(TokenTree::Group(group)) if is_hash && group.delimiter() == Delimiter::Bracket => {
                matches!(compact(&group.stream()).as_str(), "cfg(test)" | "test")
            }
            _ => false,
        };
        if !is_test {
            kept.push(token);
            continue;
        }
        // The item ends with its braces or its semicolon.
        for token in tokens.by_ref() {
            match token {
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => break,
                TokenTree::Punct(punct) if punct.as_char() == ';' => break,
                _ => {}
            }
        }
    }
    kept
}

fn compact(tokens: &TokenStream) -> String {
    tokens.to_string().chars().filter(|letter| !letter.is_whitespace()).collect()
}

/// What may begin a path at `tokens[at]`, or go on with it: a word, or the braces of an import.
fn read_paths(tokens: &[TokenTree], found: &mut Vec<String>) {
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Ident(_) => at = read_path(tokens, at, &mut Vec::new(), found),
            TokenTree::Group(group) => {
                read_paths(&without_tests(group.stream()), found);
                at += 1;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => at += 1,
        }
    }
}

/// Reads the path that begins at `tokens[at]`, and returns where it is over.
fn read_path(tokens: &[TokenTree], mut at: usize, path: &mut Vec<String>, found: &mut Vec<String>) -> usize {
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(word)) => path.push(word.to_string()),
            Some(TokenTree::Punct(star)) if star.as_char() == '*' => path.push("*".to_owned()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace && !path.is_empty() => {
                let items: Vec<TokenTree> = group.stream().into_iter().collect();
                for item in items.split(|token| is_punct(token, ',')).filter(|item| !item.is_empty()) {
                    read_path(item, 0, &mut path.clone(), found);
                }
                return at + 1;
            }
            _ => break,
        }
        at += 1;
        let goes_on = matches!(tokens.get(at..at + 2), Some([a, b]) if is_punct(a, ':') && is_punct(b, ':'));
        if !goes_on {
            break;
        }
        at += 2;
    }
    if path.len() > 1 {
        found.push(path.join("::"));
    }
    at
}

fn is_punct(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign)
}

fn read_words(tokens: &[TokenTree], found: &mut Vec<String>) {
    for token in tokens {
        match token {
            TokenTree::Ident(word) => found.push(word.to_string()),
            TokenTree::Group(group) => read_words(&without_tests(group.stream()), found),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

fn read_attributes(tokens: TokenStream, found: &mut Vec<String>) {
    let mut follows_hash = false;
    for token in tokens {
        if let TokenTree::Group(group) = &token {
            if follows_hash && group.delimiter() == Delimiter::Bracket {
                found.push(compact(&group.stream()));
            }
            read_attributes(group.stream(), found);
        }
        let is_inner = follows_hash && is_punct(&token, '!');
        follows_hash = is_punct(&token, '#') || is_inner;
    }
}
