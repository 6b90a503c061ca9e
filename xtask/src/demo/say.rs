//! What the demo prints: headings, commands, rows of sessions, claims that were checked. Colours and the check mark
//! are for terminals; elsewhere, and in CI, lines are plain. All of it goes to standard error, as all that is
//! meant for people.

use std::io::IsTerminal;

/// The longest line of a table: what a wide terminal shows without wrapping.
const WIDTH: usize = 150;

/// The printer.
#[derive(Clone, Copy, Debug)]
pub struct Say {
    colour: bool,
}

impl Say {
    /// A printer for standard error as it is.
    pub fn new() -> Self {
        let off = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self { colour: std::io::stderr().is_terminal() && !off("NO_COLOR") && !super::ci() && !dumb }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The beginning of an act.
    pub fn heading(self, text: &str) {
        eprintln!("\n{}", self.paint("1;36", &format!("== {text}")));
    }

    /// What is about to happen, or what to make of it.
    pub fn line(self, text: &str) {
        eprintln!("{}", format!("   {text}").trim_end());
    }

    /// A command that is run now, as a person would type it.
    pub fn command(self, text: &str) {
        eprintln!("   {}", self.paint("1", &format!("$ {text}")));
    }

    /// Something that was checked and is true.
    pub fn truth(self, claim: &str) {
        let mark = if self.colour { "\x1b[32m\u{2713}\x1b[0m " } else { "ok " };
        eprintln!("   {mark}{claim}");
    }

    /// A row of a table; `phase` is the part to colour.
    pub fn row(self, text: &str, phase: &str) {
        let short = shorten(text, WIDTH);
        let code = match phase {
            "Active" => "32",
            "Idle" => "33",
            "Failed" => "31",
            "Disconnected" | "Terminated" => "35",
            _ => "34",
        };
        let painted = if phase.is_empty() {
            short
        } else {
            short.replacen(&format!(" {phase} "), &self.paint(code, &format!(" {phase} ")), 1)
        };
        eprintln!("   {painted}");
    }

    /// A table as kubectl printed it.
    pub fn table(self, text: &str) {
        for line in text.lines() {
            self.row(line, "");
        }
    }

    /// The head of a table.
    pub fn head(self, text: &str) {
        eprintln!("   {}", self.paint("2", text));
    }
}

fn shorten(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.trim_end().to_owned();
    }
    let kept: String = text.chars().take(width - 1).collect();
    format!("{}\u{2026}", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::shorten;

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        assert_eq!(shorten("short  ", 10), "short");
        assert_eq!(shorten("äöüäöüäöü", 5), "äöüä…");
    }
}
