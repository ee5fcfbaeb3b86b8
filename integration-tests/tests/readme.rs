//! The README's configuration is one that pgherd accepts.

const README: &str = include_str!("../../README.md");

#[test]
fn the_configuration_in_the_readme_is_accepted_as_it_stands() {
    let files: Vec<&str> = README
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().expect("split gives at least one part"))
        .collect();
    assert_eq!(files.len(), 1, "the README has one configuration file");
    for text in files {
        if let Err(problems) = pgherd_config::parse(text, "README.md") {
            panic!("{text}\n{}", problems.lines().collect::<Vec<_>>().join("\n"));
        }
    }
}
