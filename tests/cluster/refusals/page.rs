//! docs/refusals.md as the table renders it. With `BERTH_WRITE_DOCS=1` the test writes the page anew.

use std::fs;
use std::path::Path;

use super::{Act, By, Row, Section, TABLE};

const HEAD: &str = "\
<!-- Made from tests/cluster/refusals: BERTH_WRITE_DOCS=1 cargo test --test cluster the_page_of_refusals -->

# What bad input gets

An object that is wrong is refused by the API server, with a message that says what to write instead. What only the
cluster can know becomes a condition and an event on that object alone. Neither stops any other object. Every row of this
page is a test against a real API server.

**Written** is laid over an object that is right otherwise; `null` stands for a field that is not written, and `a×254` for
that many letters. **By** says who refuses: the schema with its types, bounds and fields; a rule of ours in the schema;
or the operator. Messages of the API server begin with the kind and the name of the object, which are left out here; where
the schema itself is violated it adds that some rules were not checked. `<nil>` is its word for the object as a whole.
";

fn about(section: &Section) -> &'static str {
    match section.act {
        Act::Template => {
            "The API server keeps a template as it is written. The operator looks at it, asks the API server whether it would \
             accept what the template makes, and says on the Workspace `TemplateValid=False` with this message, `Ready=False`, \
             and an event `TemplateInvalid`. Sessions of this Workspace wait as Pending and repeat it. `NAME-…` is a name that \
             is made from that of the Workspace."
        }
        Act::Reference => {
            "The Session waits as Pending, with this message in its conditions and an event, until what it names exists or the \
             policy's `queueTimeout` has passed. `policyRef` is that of its Workspace."
        }
        Act::Kubectl => {
            "One version is served. An object of another one, or of a kind that does not exist, kubectl does not even send."
        }
        Act::Create(_) | Act::Edit(..) | Act::Replace(_) | Act::EditWorkspace(_) => "",
    }
}

fn line(row: &Row) -> String {
    let by = match row.by {
        By::Schema => "schema",
        By::Rule => "rule",
        By::Operator => "operator",
        By::Kubectl => "kubectl",
    };
    let code = |text: &str| format!("`{}`", text.replace('|', "\\|"));
    format!("| {} | {} | {by} | {} |\n", row.wrong, code(row.written), code(row.says))
}

/// The page.
fn rendered() -> String {
    let mut page = HEAD.to_owned();
    for section in &TABLE {
        page.push_str(&format!("\n## {}\n\n", section.title));
        let about = about(section);
        if !about.is_empty() {
            page.push_str(&format!("{about}\n\n"));
        }
        page.push_str("| Wrong | Written | By | Message |\n|---|---|---|---|\n");
        page.extend(section.rows.iter().map(line));
    }
    page
}

#[test]
fn the_page_of_refusals_is_that_of_the_table() {
    let path = Path::new("docs/refusals.md");
    if std::env::var_os("BERTH_WRITE_DOCS").is_some_and(|value| value == "1") {
        fs::write(path, rendered()).unwrap();
    }
    let page = fs::read_to_string(path).unwrap_or_default();
    assert!(page == rendered(), "docs/refusals.md has drifted: run this test with BERTH_WRITE_DOCS=1");
}
