//! Writes `docs/configuration.md` from the declarations of the settings.

fn main() -> std::io::Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    std::fs::write(path, aktis_common::config::Settings::render_docs())
}
