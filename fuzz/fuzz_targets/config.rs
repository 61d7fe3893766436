//! No document makes the reader of configurations panic; what is wrong is told with its key or its line; and what came
//! from a variable, or stands where secrets stand, is never shown.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// What the variable holds; no document holds it.
const SECRET: &str = "hunter2-from-the-environment";

// The rooms of the agent's own configuration, without the agent: building that with a sanitizer takes half an hour.
#[path = "../../src/config"]
#[allow(dead_code, unused_imports, missing_docs)]
mod config {
    mod check;
    mod de;
    mod interpolate;
    mod load;
    mod machine;
    mod model;
    mod overlay;
    mod problem;
    mod raw;
    mod remote;
    mod settings;
    mod tree;
    mod units;
    mod url;

    pub use load::{ConfigSource, Draft, load};
    pub use machine::Machine;
    pub use model::*;
    pub use problem::ConfigError;
    pub use remote::{RemoteSecret, SecretPlace, SecretSource, SecretTexts};
}

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if reads_a_file(text) || text.contains(SECRET) {
        return;
    }
    let variables = [("KEY", SECRET), ("TRAILSHIP__AGENT__SHUTDOWN_GRACE", "20s")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let machine = config::Machine { variables: variables.into(), ..config::Machine::default() };
    let source = config::ConfigSource::Document { name: "document".to_owned(), text: text.to_owned() };
    let said = match config::load(&source, &machine) {
        Ok(config) => {
            let again = config::ConfigSource::Document {
                name: "document".to_owned(),
                text: config.effective.replace("***", "secret"),
            };
            // What is printed is a configuration again, and the same one.
            if !config.effective.contains("***") {
                let again = config::load(&again, &config::Machine::default());
                assert!(again.is_ok_and(|again| again.effective == config.effective), "{}", config.effective);
            }
            let warnings: String = config.warnings.iter().map(ToString::to_string).collect();
            format!("{}{warnings}{config:?}", config.effective)
        }
        Err(error) => {
            assert!(!error.problems.is_empty());
            for problem in &error.problems {
                let has_line = problem.at.as_ref().is_some_and(|at| at.line.is_some());
                // Of a document that is nested too deep the parser names no place.
                let is_too_deep = problem.message.contains("recursion limit");
                assert!(has_line || !problem.key.is_empty() || is_too_deep, "{problem}");
                assert!(!problem.message.is_empty(), "{problem}");
            }
            error.to_string()
        }
    };
    assert!(!said.contains(SECRET), "{said}");
});

/// Whether a secret may be told to lie in a file: nothing is read from the disk here.
fn reads_a_file(text: &str) -> bool {
    let is_key = |(at, _): (usize, &str)| {
        let before = text[..at].chars().next_back();
        let after = text[at + "file".len()..].trim_start_matches([' ', '\t', '"', '\'']);
        after.starts_with('=') && before.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_' && c != '-')
    };
    // The word may be written with escapes as well.
    ["\\u", "\\U", "\\x"].iter().any(|escape| text.contains(escape)) || text.match_indices("file").any(is_key)
}
