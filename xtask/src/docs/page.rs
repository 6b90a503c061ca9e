//! A page of the documentation as its fenced blocks, each with what the comments directly above it say. Owns what of
//! Markdown is understood; what a block means is `script`'s.

use super::marker::Marker;
use crate::compile;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;

/// One fenced block.
#[derive(Clone, Debug)]
pub struct Block {
    /// The word behind the opening fence.
    pub language: String,
    /// The number of the line of the opening fence, from 1.
    pub line: usize,
    /// How far the block is indented, as in a list.
    pub indent: usize,
    /// What stands in it, without the indentation.
    pub lines: Vec<String>,
    /// What is said of it.
    pub markers: Vec<Marker>,
}

impl Block {
    /// Why it is not run, if so.
    pub fn not_run(&self) -> Option<&str> {
        self.markers.iter().find_map(|marker| match marker {
            Marker::NotRun(why) => Some(why.as_str()),
            _ => None,
        })
    }
}

/// A page.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its path from the repository's folder.
    pub path: String,
    /// Its fenced blocks, from top to bottom.
    pub blocks: Vec<Block>,
}

impl Page {
    /// Reads a page's text.
    pub fn parse(path: &str, text: &str) -> Result<Self> {
        let lines: Vec<&str> = text.lines().collect();
        let (mut blocks, mut markers, mut at) = (Vec::new(), Vec::new(), 0);
        while let Some(line) = lines.get(at) {
            let here = || format!("{path}:{}", at + 1);
            let trimmed = line.trim_start();
            if trimmed.starts_with("<!--") {
                let (comment, after) = comment(&lines, at).with_context(|| format!("{}: no end of <!--", here()))?;
                if Marker::is_meant(&comment) || lines.get(after).is_some_and(|next| is_fence(next)) {
                    markers.push(Marker::parse(&comment).with_context(here)?);
                }
                at = after;
            } else if is_fence(line) {
                let block = block(&lines, at, std::mem::take(&mut markers)).with_context(here)?;
                at += block.lines.len() + 2;
                blocks.push(block);
            } else if !markers.is_empty() {
                bail!("{}: {:?} belongs directly above a block", here(), markers[0]);
            } else if line.starts_with("    ") && at > 0 && lines[at - 1].trim().is_empty() {
                bail!("{}: write a fenced block, which says what it is", here());
            } else {
                at += 1;
            }
        }
        Ok(Self { path: path.to_owned(), blocks })
    }
}

fn is_fence(line: &str) -> bool {
    line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~")
}

/// The comment that begins at a line, and the number of the line after it.
fn comment(lines: &[&str], at: usize) -> Option<(String, usize)> {
    let length = lines[at..].iter().position(|line| line.contains("-->"))? + 1;
    let text = lines[at..at + length].join("\n");
    let inner = text.trim().strip_prefix("<!--")?.strip_suffix("-->")?;
    Some((inner.to_owned(), at + length))
}

fn block(lines: &[&str], at: usize, markers: Vec<Marker>) -> Result<Block> {
    let opening = lines[at].trim_start();
    let indent = lines[at].len() - opening.len();
    let Some(language) = opening.strip_prefix("```").filter(|rest| !rest.contains('`')) else {
        bail!("open a block with three backticks and the language");
    };
    let length = lines[at + 1..].iter().position(|line| line.trim() == "```").context("the block has no end")?;
    let inner = lines[at + 1..at + 1 + length].iter().map(|line| {
        let cut = line.len() - line.trim_start().len();
        line[cut.min(indent)..].to_owned()
    });
    Ok(Block { language: language.trim().to_owned(), line: at + 1, indent, lines: inner.collect(), markers })
}

/// All pages of the repository, so that a new one cannot be forgotten.
pub fn all() -> Result<Vec<Page>> {
    let root = compile::root();
    let mut paths = Vec::new();
    collect(&root, &root, &mut paths)?;
    paths.sort();
    let read = |path: &String| {
        let text = fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))?;
        Page::parse(path, &text)
    };
    paths.iter().map(read).collect()
}

fn collect(root: &Path, folder: &Path, paths: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            if !name.starts_with('.') && name != "target" {
                collect(root, &entry.path(), paths)?;
            }
        } else if name.ends_with(".md") {
            paths.push(entry.path().strip_prefix(root)?.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_their_markers_and_their_place() {
        let text = "# A\n\n- in a list:\n\n  <!-- before: a\n    b -->\n  <!-- exits: 1 -->\n  ```sh\n  one\n    two\n  ```\n\n\
                    <!-- a remark -->\n\n```text\n  art\n```\n";
        let page = Page::parse("a.md", text).unwrap();
        assert_eq!(page.blocks.len(), 2);
        let (first, second) = (&page.blocks[0], &page.blocks[1]);
        assert_eq!((first.line, first.indent, first.language.as_str()), (8, 2, "sh"));
        assert_eq!(first.lines, ["one", "  two"]);
        assert_eq!(first.markers, [Marker::Before("a\n    b".into()), Marker::Exits(1)]);
        assert_eq!((second.line, second.lines.len(), second.markers.len()), (15, 1, 0));
    }

    #[test]
    fn what_would_be_skipped_without_a_word_is_an_error() {
        for (wrong, why) in [
            ("<!-- not run: x -->\n\n```sh\na\n```\n", "a marker that is not directly above"),
            ("<!-- not-run: x -->\n```sh\na\n```\n", "a word that is misspelt"),
            ("<!-- not run: -->\n```sh\na\n```\n", "no reason"),
            ("```sh\na\n", "no end"),
            ("~~~sh\na\n~~~\n", "another fence"),
            ("````sh\na\n````\n", "another fence"),
            ("<!-- not run: x\n", "no end of the comment"),
            ("as in\n\n    kubectl get pods\n", "a block by its indentation"),
        ] {
            assert!(Page::parse("a.md", wrong).is_err(), "{why}");
        }
    }
}
