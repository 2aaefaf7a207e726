//! docs/deploy.md says what the command takes and tells.

use std::path::Path;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn every_command_on_the_page_is_one() {
    let page = read("../../docs/deploy.md");
    // In a shell, in a unit, as a list of JSON, and as pm2 has them.
    let plain = page
        .replace("\", \"", " ")
        .replace("[\"", "")
        .replace("\"]", "")
        .replace("args: 'worker", "taskloom worker");
    let mut found = 0;
    for line in plain.lines() {
        let Some((_, command)) =
            line.split_once("taskloom worker ").filter(|(_, command)| command.contains("--"))
        else {
            continue;
        };
        let command = command.split(" #").next().unwrap_or_default().trim_end_matches("',");
        let words = ["taskloom", "worker"].into_iter().chain(command.split_whitespace());
        let parsed = taskloom_cli::definition().try_get_matches_from(words);
        assert!(parsed.is_ok(), "{line}\n{}", parsed.unwrap_err());
        found += 1;
    }
    assert_eq!(found, 6);
}

#[test]
fn every_event_is_on_the_page() {
    let page = read("../../docs/deploy.md");
    let source = read("src/supervise/notice.rs");
    let (_, names) = source.split_once("fn name(&self)").unwrap();
    let (names, _) = names.split_once("\n    }\n").unwrap();
    let names: Vec<&str> = names.split('"').skip(1).step_by(2).collect();
    assert_eq!(names.len(), 16);
    for name in names {
        assert!(page.contains(&format!("`{name}`")), "{name} is not in docs/deploy.md");
    }
}
