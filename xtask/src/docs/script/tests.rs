//! What becomes of a page's blocks.

use super::*;

fn script(text: &str) -> Result<Script> {
    Script::of(&Page::parse("a.md", text).unwrap(), "own")
}

fn texts(script: &Script) -> Vec<&str> {
    script.commands.iter().map(|command| command.text.as_str()).collect()
}

#[test]
fn a_command_is_what_the_shell_takes_for_one() {
    let block = "```sh\n# a remark\none \\\n  two\n\ncat <<'EOF'\nx\nEOF\nif a; then\n  b\nfi\necho 'c\nd'\n```\n";
    let script = script(block).unwrap();
    assert_eq!(texts(&script), ["one \\\n  two", "cat <<'EOF'\nx\nEOF", "if a; then\n  b\nfi", "echo 'c\nd'"]);
    assert_eq!(script.commands.iter().map(|command| command.line).collect::<Vec<_>>(), [3, 6, 9, 12]);
}

#[test]
fn an_unmarked_block_is_run_or_is_an_error() {
    assert_eq!(script("```sh\na\n```\n").unwrap().commands.len(), 1);
    assert_eq!(script("```yaml\napiVersion: v1\n```\n").unwrap().commands.len(), 1);
    for wrong in ["```\na\n```\n", "```yaml\na: b\n```\n", "```toml\na\n```\n", "```sh\nif a\n```\n"] {
        assert!(script(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_output_of_a_block_is_the_console_after_it() {
    let script = script("```sh\na\nb\n```\n\n```console\nx\ny\n```\n").unwrap();
    let shown = &script.shown[0];
    assert_eq!((shown.line, shown.length, shown.text.as_str(), shown.commands.clone()), (7, 2, "x\ny", 0..2));
}

#[test]
fn output_of_what_is_not_run_is_an_error() {
    assert!(script("<!-- not run: x -->\n```sh\na\n```\n\n```console\nx\n```\n").is_err());
}

#[test]
fn a_console_has_each_command_with_its_output() {
    let script = script("```console\n$ a\nx\n$ cat <<E\n> b\n> E\n$ c\ny\nz\n```\n").unwrap();
    assert_eq!(texts(&script), ["a", "cat <<E\nb\nE", "c"]);
    let shown: Vec<_> = script.shown.iter().map(|it| (it.line, it.text.as_str(), it.commands.start)).collect();
    assert_eq!(shown, [(3, "x", 0), (7, "", 1), (8, "y\nz", 2)]);
}

#[test]
fn what_a_reader_fills_in_is_filled_in() {
    let page = "<!-- run all with: NAME => ana -->\n<!-- run with: -w => -o name -->\n```sh\nget NAME -w -n demo\n```\n\n\
                ```sh\nget NAME -w -n NAMESPACE demo-x my-demo\n```\n";
    assert_eq!(texts(&script(page).unwrap()), ["get ana -o name -n own", "get ana -w -n own demo-x my-demo"]);
    for dead in ["<!-- run with: B => x -->\n```sh\na\n```\n", "<!-- run all with: B => x -->\n```sh\na\n```\n"] {
        assert!(script(dead).is_err(), "{dead}");
    }
}

#[test]
fn what_stands_around_a_block_is_run_around_it() {
    let page = "<!-- before: x -->\n<!-- then: y -->\n<!-- exits: 3 -->\n```sh\na\nb\n```\n";
    let script = script(page).unwrap();
    let seen: Vec<_> = script.commands.iter().map(|it| (it.text.as_str(), it.exits, it.hidden, it.last)).collect();
    assert_eq!(seen, [("x", 0, true, false), ("a", 0, false, false), ("b", 3, false, false), ("y", 0, true, true)]);
}

#[test]
fn a_forwarded_port_is_a_free_one_for_the_block() {
    let page =
        "```sh\nkubectl port-forward pod/a 8080 &\ncurl localhost:8080/x\n```\n\n```sh\ncurl localhost:8080\n```\n";
    let script = script(page).unwrap();
    let (forward, curl) = (&script.commands[0].text, &script.commands[1].text);
    let free = forward.strip_prefix("kubectl port-forward pod/a ").unwrap().strip_suffix(":8080 &").unwrap();
    assert_eq!(curl, &format!("curl localhost:{free}/x"));
    assert_eq!(script.commands[2].text, "curl localhost:8080");
}
