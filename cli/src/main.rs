//! The aktis command without Python around it. Workers are forked from the Python of the environment.

use aktis_cli::Launcher;

fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args();
    let called = arguments.next().unwrap_or_else(|| "aktis".to_owned());
    let own = std::env::current_exe().map_or(called, |path| path.display().to_string());
    let arguments: Vec<String> = arguments.collect();
    let zygote = ["python3", "-m", "aktis._process.zygote"]
        .map(str::to_owned)
        .to_vec();
    let launcher = Launcher {
        self_command: vec![own],
        zygote_command: zygote,
    };
    std::process::ExitCode::from(aktis_cli::main(&arguments, &launcher))
}
