//! What an HTML comment directly above a block says of how the block is run. Owns the language, which CONTRIBUTING.md
//! describes; it renders as nothing. A block without such a comment is run as it stands.

use anyhow::{Context, Result, bail, ensure};

/// One thing that is said of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marker {
    /// `not run: REASON`.
    NotRun(String),
    /// `run with: OLD => NEW`: another text in the block's place, such as for a name that a reader fills in.
    With(String, String),
    /// `run all with: OLD => NEW`: the same from here to the end of the page.
    AllWith(String, String),
    /// `before: COMMANDS`: what the page takes for granted.
    Before(String),
    /// `then: COMMANDS`: what is done after the block, or what must be true after it.
    Then(String),
    /// `exits: CODE`: the code with which the block's last command ends, where that is not 0.
    Exits(i32),
    /// `file: NAME`: the block is a file of this name.
    File(String),
}

/// The words with which markers begin.
const WORDS: [&str; 7] = ["not run", "run with", "run all with", "before", "then", "exits", "file"];

impl Marker {
    /// Whether a comment means to be a marker; others are nobody's business here.
    pub fn is_meant(comment: &str) -> bool {
        comment.split_once(':').is_some_and(|(word, _)| WORDS.contains(&word.trim()))
    }

    /// What a comment says, without its `<!--` and `-->`.
    pub fn parse(comment: &str) -> Result<Self> {
        let (word, text) = comment.split_once(':').with_context(|| format!("`{}` is no marker", comment.trim()))?;
        let (word, text) = (word.trim(), text.trim().to_owned());
        let pair = || {
            let (old, new) = text.split_once("=>").with_context(|| format!("write `{word}: OLD => NEW`"))?;
            ensure!(!old.trim().is_empty(), "write `{word}: OLD => NEW`");
            Ok((old.trim().to_owned(), new.trim().to_owned()))
        };
        ensure!(!text.is_empty(), "`{word}:` says nothing");
        Ok(match word {
            "not run" => Self::NotRun(text),
            "run with" => pair().map(|(old, new)| Self::With(old, new))?,
            "run all with" => pair().map(|(old, new)| Self::AllWith(old, new))?,
            "before" => Self::Before(text),
            "then" => Self::Then(text),
            "exits" => Self::Exits(text.parse().with_context(|| format!("`exits: {text}` has no exit code"))?),
            "file" => Self::File(text),
            _ => bail!("`{word}` is no marker; there are {}", WORDS.join(", ")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Marker;

    #[test]
    fn each_word_is_understood() {
        assert_eq!(Marker::parse(" not run: needs Docker ").unwrap(), Marker::NotRun("needs Docker".into()));
        assert_eq!(Marker::parse("run with: A => B c").unwrap(), Marker::With("A".into(), "B c".into()));
        assert_eq!(Marker::parse("run with: -w => ").unwrap(), Marker::With("-w".into(), String::new()));
        assert_eq!(Marker::parse("run all with: A => $b").unwrap(), Marker::AllWith("A".into(), "$b".into()));
        assert_eq!(Marker::parse("before:\n  a\n  b\n").unwrap(), Marker::Before("a\n  b".into()));
        assert_eq!(Marker::parse("then: a: b").unwrap(), Marker::Then("a: b".into()));
        assert_eq!(Marker::parse("exits: 1").unwrap(), Marker::Exits(1));
        assert_eq!(Marker::parse("file: hello.yaml").unwrap(), Marker::File("hello.yaml".into()));
    }

    #[test]
    fn a_marker_that_says_nothing_is_an_error() {
        for wrong in
            ["not run:", "not run: ", "run with: A", "run with: => B", "exits: x", "skip: it", "matrix", "file:"]
        {
            assert!(Marker::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Marker::is_meant(" not run:") && !Marker::is_meant(" matrix ") && !Marker::is_meant("Made from: x"));
    }
}
