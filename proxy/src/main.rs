fn main() -> std::process::ExitCode {
    pgherd::cli::main()
}
