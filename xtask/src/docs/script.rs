//! A page as what a person would do who works through it: its commands in order, with what each is said to print.
//! Owns what a block means by its language and its markers; the running is `ground`'s.

use super::marker::Marker;
use super::page::{Block, Page};
use crate::run::Run;
use anyhow::{Context, Result, bail, ensure};

/// One command, as it is run.
#[derive(Clone, Debug, Default)]
pub struct Command {
    /// Where it stands: the number of its line.
    pub line: usize,
    /// What the shell is given.
    pub text: String,
    /// The code with which it ends.
    pub exits: i32,
    /// Whether it stands on the page, or in a marker.
    pub hidden: bool,
    /// Whether it is the last of its block: what runs behind it ends here.
    pub last: bool,
}

/// Output that a page shows, and which commands print it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The number of its first line.
    pub line: usize,
    /// How many lines it has.
    pub length: usize,
    /// Its indentation.
    pub indent: usize,
    /// What it says.
    pub text: String,
    /// Of the script's commands, those that print it.
    pub commands: std::ops::Range<usize>,
}

/// A page, ready to be run.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// What is done, in order.
    pub commands: Vec<Command>,
    /// What should be seen.
    pub shown: Vec<Shown>,
    /// What is not run: the line, and why.
    pub not_run: Vec<(usize, String)>,
}

/// What a block is.
enum Kind {
    /// Commands alone.
    Commands,
    /// Commands behind `$ `, with their output; or the output of the block before.
    Console,
    /// Objects for the API server.
    Objects,
    /// Nothing that is run.
    Text,
}

impl Script {
    /// Reads a page. `namespace` is the one that stands in for `demo` and `NAMESPACE`.
    pub fn of(page: &Page, namespace: &str) -> Result<Self> {
        let mut script = Self::default();
        let mut places: Vec<(String, String, bool)> = Vec::new();
        let mut before = None;
        for block in &page.blocks {
            let here = || format!("{}:{}", page.path, block.line);
            before = script.add(block, namespace, &mut places, before).with_context(here)?;
        }
        if let Some((old, ..)) = places.iter().find(|(.., used)| !used) {
            bail!("{}: `run all with: {old}` meets nothing", page.path);
        }
        Ok(script)
    }

    /// Adds a block; the commands whose output the next block may show.
    fn add(
        &mut self,
        block: &Block,
        namespace: &str,
        places: &mut Vec<(String, String, bool)>,
        before: Option<std::ops::Range<usize>>,
    ) -> Result<Option<std::ops::Range<usize>>> {
        let mut filled = Filled { namespace, places, own: Vec::new() };
        for marker in &block.markers {
            let place = |old, new| (filled.own_namespace(old), filled.own_namespace(new), false);
            match marker {
                Marker::With(old, new) => filled.own.push(place(old, new)),
                Marker::AllWith(old, new) => filled.places.push(place(old, new)),
                Marker::Before(_) | Marker::Then(_) | Marker::NotRun(_) | Marker::Exits(_) | Marker::File(_) => {}
            }
        }
        self.hidden(block, &mut filled, |marker| if let Marker::Before(text) = marker { Some(text) } else { None });
        if let Some(why) = block.not_run() {
            self.not_run.push((block.line, why.to_owned()));
            return Ok(None);
        }
        let first = self.commands.len();
        let file =
            block.markers.iter().find_map(|m| if let Marker::File(name) = m { Some(name.as_str()) } else { None });
        let text = block.lines.join("\n");
        let kind = if file.is_some() { Kind::Text } else { kind(&block.language)? };
        let console = matches!(kind, Kind::Console);
        match (file, kind) {
            (Some(name), _) => self.push(block.line, here_document(&format!("cat > {name}"), &filled.in_place(&text))),
            (None, Kind::Objects) => {
                ensure!(text.contains("apiVersion:"), "these are no objects: say `file:`, or `not run:` and why");
                let ask = format!("kubectl apply --namespace={namespace} --dry-run=server -f -");
                self.push(block.line, here_document(&ask, &filled.in_place(&text)));
            }
            (None, Kind::Commands) => {
                for (line, text) in commands(block.lines.iter().map(String::as_str).enumerate())? {
                    self.push(block.line + 1 + line, filled.in_place(&text));
                }
            }
            (None, Kind::Console) if block.lines.iter().any(|line| line.starts_with("$ ")) => {
                self.console(block, &mut filled)?;
            }
            (None, Kind::Console) => {
                let commands = before.context("this is the output of a block before that is not run")?;
                let (line, length, indent) = (block.line + 1, block.lines.len(), block.indent);
                self.shown.push(Shown { line, length, indent, text, commands });
                return Ok(None);
            }
            (None, Kind::Text) => return Ok(None),
        }
        let all = first..self.commands.len();
        if let Some(last) = self.commands[all.clone()].last_mut() {
            let code = |marker: &Marker| if let Marker::Exits(code) = marker { Some(*code) } else { None };
            last.exits = block.markers.iter().find_map(code).unwrap_or(0);
        }
        self.hidden(block, &mut filled, |marker| if let Marker::Then(text) = marker { Some(text) } else { None });
        self.forwards(first)?;
        if let Some(last) = self.commands.last_mut() {
            last.last = true;
        }
        if let Some((old, ..)) = filled.own.iter().find(|(.., used)| !used) {
            bail!("`run with: {old}` meets nothing");
        }
        Ok((!console).then_some(all))
    }

    fn push(&mut self, line: usize, text: String) {
        self.commands.push(Command { line, text, ..Command::default() });
    }

    fn hidden<'a>(&mut self, block: &'a Block, filled: &mut Filled, which: impl Fn(&'a Marker) -> Option<&'a String>) {
        for text in block.markers.iter().filter_map(which) {
            let text = filled.in_place(text);
            self.commands.push(Command { line: block.line, text, hidden: true, ..Command::default() });
        }
    }

    fn console(&mut self, block: &Block, filled: &mut Filled) -> Result<()> {
        let mut at = 0;
        while at < block.lines.len() {
            let rest = block.lines[at..].iter().enumerate();
            let typed = rest.map_while(|(index, line)| line.strip_prefix(if index == 0 { "$ " } else { "> " }));
            let typed: Vec<&str> = typed.collect();
            ensure!(!typed.is_empty(), "the first line of a console is `$ ` and a command");
            let found = commands(typed.iter().copied().enumerate())?;
            let [(_, text)] = found.as_slice() else { bail!("`{}` is not one command", typed.join("\n")) };
            self.push(block.line + 1 + at, filled.in_place(text));
            at += typed.len();
            let shown: Vec<&str> =
                block.lines[at..].iter().map(String::as_str).take_while(|line| !line.starts_with("$ ")).collect();
            let (length, index) = (shown.len(), self.commands.len() - 1);
            self.shown.push(Shown {
                line: block.line + 1 + at,
                length,
                indent: block.indent,
                text: shown.join("\n"),
                commands: index..index + 1,
            });
            at += length;
        }
        Ok(())
    }

    /// Ports that a block forwards are free ones of this machine, in its other commands too.
    fn forwards(&mut self, first: usize) -> Result<()> {
        let mut moved: Vec<(String, u16)> = Vec::new();
        for command in &mut self.commands[first..] {
            for (port, free) in &moved {
                for host in ["localhost", "127.0.0.1"] {
                    let (old, new) = (format!("{host}:{port}"), format!("{host}:{free}"));
                    command.text = command.text.replace(&old, &new);
                }
            }
            if let Some(port) = forwarded(&command.text) {
                let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
                let cut = command.text.len() - " &".len() - port.len();
                command.text = format!("{}{free}:{port} &", &command.text[..cut]);
                moved.push((port, free));
            }
        }
        Ok(())
    }
}

/// The port that a command forwards behind itself, under the same number here as there.
fn forwarded(command: &str) -> Option<String> {
    let port = command.strip_suffix(" &")?.rsplit(' ').next()?;
    (command.contains(" port-forward ") && port.parse::<u16>().is_ok()).then(|| port.to_owned())
}

fn kind(language: &str) -> Result<Kind> {
    Ok(match language {
        "sh" | "bash" => Kind::Commands,
        "console" => Kind::Console,
        "yaml" => Kind::Objects,
        "text" => Kind::Text,
        "" => bail!("a block says its language: sh, console, yaml, or text for what is none"),
        other => bail!("what is to be done with {other}? Say `file:`, or `not run:` and why"),
    })
}

fn here_document(command: &str, text: &str) -> String {
    format!("{command} <<'END-OF-THE-BLOCK'\n{text}\nEND-OF-THE-BLOCK")
}

/// Lines as commands, each with the index of its first line. Where a command ends, the shell itself says.
fn commands<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Result<Vec<(usize, String)>> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in lines {
        let (first, text) = match open.take() {
            Some((first, text)) => (first, format!("{text}\n{line}")),
            None if line.trim().is_empty() || line.trim_start().starts_with('#') => continue,
            None => (index, line.to_owned()),
        };
        if is_whole(&text) { found.push((first, text)) } else { open = Some((first, text)) }
    }
    match open {
        Some((_, text)) => bail!("this is not a whole command: {text}"),
        None => Ok(found),
    }
}

/// Whether the shell would run this, rather than wait for more. It warns of here-documents that have no end.
fn is_whole(text: &str) -> bool {
    let said = Run::new("bash").args(["-c", "bash -n 2>&1"]).input(text).output();
    !text.ends_with('\\') && said.is_ok_and(|said| said.is_empty())
}

/// The texts that stand in for others: those of the page, and those of a block.
struct Filled<'a> {
    namespace: &'a str,
    places: &'a mut Vec<(String, String, bool)>,
    own: Vec<(String, String, bool)>,
}

impl Filled<'_> {
    fn own_namespace(&self, text: &str) -> String {
        word(&word(text, "demo", self.namespace), "NAMESPACE", self.namespace)
    }

    fn in_place(&mut self, text: &str) -> String {
        let mut text = self.own_namespace(text);
        for (old, new, used) in self.own.iter_mut().chain(self.places.iter_mut()) {
            *used |= text.contains(old.as_str());
            text = text.replace(old.as_str(), new);
        }
        text
    }
}

/// Puts another word in a word's place, where it stands by itself.
pub fn word(text: &str, old: &str, new: &str) -> String {
    let inner = |letter: Option<char>| letter.is_some_and(|it| it.is_ascii_alphanumeric() || it == '-' || it == '_');
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(old) {
        let (head, tail) = (&rest[..at], &rest[at + old.len()..]);
        let alone = !inner(head.chars().next_back().or_else(|| out.chars().next_back())) && !inner(tail.chars().next());
        out.push_str(head);
        out.push_str(if alone { new } else { old });
        rest = tail;
    }
    out + rest
}

#[cfg(test)]
mod tests;
