//! The aktis command without Python around it. Workers are forked from the Python of the environment.

use aktis_cli::Launcher;

fn main() -> std::process::ExitCode {
    let argv: Vec<String> = std::env::args().collect();
    let own = std::env::current_exe().map_or_else(
        |_| argv.first().cloned().unwrap_or_else(|| "aktis".to_owned()),
        |path| path.display().to_string(),
    );
    let zygote = ["python3", "-m", "aktis._zygote"]
        .map(str::to_owned)
        .to_vec();
    let launcher = Launcher {
        self_command: vec![own],
        zygote_command: zygote,
    };
    std::process::ExitCode::from(aktis_cli::main(&argv, &launcher))
}
