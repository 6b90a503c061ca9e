//! What holds for the pages of this repository, and how output is written into one.

use super::*;

/// How many blocks may be left out: each is a promise that nobody keeps.
const NOT_RUN: usize = 25;

#[test]
fn every_page_can_be_read_and_little_is_left_out() {
    let jobs = jobs(&[]).unwrap();
    let run: usize = jobs.iter().map(Job::count).sum();
    assert!(run > 150, "{run} commands on {} pages: were they found?", jobs.len());
    let not_run: Vec<_> =
        jobs.iter().flat_map(|job| job.script.not_run.iter().map(|it| (&job.page.path, it))).collect();
    assert!(not_run.iter().all(|(_, (_, why))| why.len() > 10), "a reason is a sentence: {not_run:#?}");
    assert!(not_run.len() <= NOT_RUN, "{} blocks are not run: {not_run:#?}", not_run.len());
}

#[test]
fn output_is_written_where_it_is_shown() {
    let text = "a\n\n  ```sh\n  x\n  ```\n\n  ```console\n  old\n  ```\n\n```console\n$ y\n$ z\nold\nold\n```\n";
    let script = Script::of(&Page::parse("a.md", text).unwrap(), "own").unwrap();
    let outputs: Vec<_> =
        script.shown.iter().zip(["new\n  er  \n", "one\n", "\n"]).map(|(s, new)| (s, new.to_owned())).collect();
    let wanted = "a\n\n  ```sh\n  x\n  ```\n\n  ```console\n  new\n    er\n  ```\n\n```console\n$ y\none\n$ z\n```\n";
    assert_eq!(rewritten(text, &outputs), wanted);
}

#[test]
fn namespaces_of_pages_are_names() {
    assert_eq!(ground::namespace("docs/runbooks/README.md"), "berth-docs-docs-runbooks-readme");
}
