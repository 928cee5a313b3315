//! The `arcly` binary: the command line over the library.

use std::process::ExitCode;

use arcly_server::cli::{CheckArgs, Cli, Command, ProbeArgs, RelayArgs, ServeArgs};
use arcly_server::config::{ConfigError, LogConfig, Overrides};
use arcly_server::relay::{self, Endpoint};
use arcly_server::{Config, Server, log, probe, stats};
use clap::Parser as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code for what the user has to change: flags, configuration, a port in use.
const USAGE: u8 = 2;

/// Why a command failed: whether by what it was told, or by what happened.
enum Failure {
    Usage(String),
    Run(String),
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

fn main() -> ExitCode {
    let command = Cli::parse().command();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(Failure::Run(format!("cannot start the runtime: {error}"))),
    };
    let result = runtime.block_on(run(command));
    // Whatever is left does not keep the process.
    runtime.shutdown_background();
    log::flush();
    result.map_or_else(report, |()| ExitCode::SUCCESS)
}

fn report(failure: Failure) -> ExitCode {
    let (code, message) = match failure {
        Failure::Usage(message) => (ExitCode::from(USAGE), message),
        Failure::Run(message) => (ExitCode::FAILURE, message),
    };
    eprintln!("error: {message}");
    code
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => serve(&args, false).await,
        Command::Demo(args) => serve(&args, true).await,
        Command::Relay(args) => copy(&args).await,
        Command::Probe(args) => look(&args).await,
        Command::Check(args) => check(&args),
    }
}

async fn serve(args: &ServeArgs, demo: bool) -> Result<(), Failure> {
    let config = Config::load(args.config.as_deref(), std::env::vars(), &args.overrides())?;
    log::init(&config.log)?;
    stats::watch_panics();
    // Caught from before anybody is told that the server is ready.
    let hangups = signal(SignalKind::hangup());
    let server = Server::start(config, demo)?;
    for listener in server.listeners() {
        eprintln!("listening protocol={} addr={}", listener.protocol, listener.addr);
    }
    eprintln!("ready");
    if let Some(addr) = server.addr("http").filter(|_| demo) {
        tracing::info!(
            "the test stream plays at http://localhost:{}/{}",
            addr.port(),
            arcly_server::demo::key()
        );
    }
    tokio::select! {
        () = stop_signal() => {}
        () = reload_on_hangup(hangups, &server, args) => {}
    }
    tracing::info!("going down; a second signal ends at once");
    tokio::select! {
        () = server.shut_down() => {}
        () = stop_signal() => tracing::warn!("ended at once"),
    }
    Ok(())
}

/// Reloads with each SIGHUP. Never completes.
async fn reload_on_hangup(signals: std::io::Result<Signal>, server: &Server, args: &ServeArgs) {
    if let Ok(mut signals) = signals {
        while signals.recv().await.is_some() {
            reload(server, args);
            server.reload_certificate().await;
        }
    }
    // Without a handler the signal ends the process by itself.
    std::future::pending().await
}

/// Reads the configuration as at the start. One that cannot be used changes nothing.
fn reload(server: &Server, args: &ServeArgs) {
    let config = Config::load(args.config.as_deref(), std::env::vars(), &args.overrides());
    match config.and_then(|config| server.reload(config)) {
        Ok(restart) if restart.is_empty() => tracing::info!("the configuration is in force"),
        Ok(restart) => {
            let keys = restart.join(", ");
            tracing::warn!(keys, "the configuration is in force, but for these keys, which need a restart");
        }
        Err(error) => {
            let error = error.to_string();
            let error =
                error.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
            tracing::error!(error, "the configuration has not changed");
        }
    }
}

/// Completes with the next SIGINT or SIGTERM.
async fn stop_signal() {
    let next = |kind| async move {
        match signal(kind) {
            Ok(mut signals) => signals.recv().await,
            // Without a handler the signal ends the process by itself.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = next(SignalKind::interrupt()) => {}
        _ = next(SignalKind::terminate()) => {}
    }
}

async fn copy(args: &RelayArgs) -> Result<(), Failure> {
    start_log(args.log.clone())?;
    let end = |text: &str| Endpoint::parse_local(text).map_err(Failure::Usage);
    let (from, to) = (end(&args.from)?, end(&args.to)?);
    Endpoint::check_ways(&from, &to).map_err(Failure::Usage)?;
    let cancel = CancellationToken::new();
    let copying = relay::copy(&from, &to, &cancel);
    tokio::pin!(copying);
    let result = tokio::select! {
        result = &mut copying => result,
        () = stop_signal() => {
            cancel.cancel();
            copying.await
        }
    };
    result.map_err(|error| Failure::Run(format!("{from} to {to}: {error}")))
}

#[allow(clippy::print_stdout, reason = "the report is what the command is for")]
async fn look(args: &ProbeArgs) -> Result<(), Failure> {
    start_log(None)?;
    let from = Endpoint::parse_local(&args.url).map_err(Failure::Usage)?;
    let report =
        probe::probe(&from, args.time.0).await.map_err(|error| Failure::Run(format!("{from}: {error}")))?;
    if args.json {
        println!("{:#}", report.to_json());
    } else {
        println!("{report}");
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the configuration is what the command is for")]
fn check(args: &CheckArgs) -> Result<(), Failure> {
    let config = Config::load(args.config.as_deref(), std::env::vars(), &Overrides::default())?;
    print!("{}", config.to_toml());
    Ok(())
}

/// Logging of the commands that have no configuration: `ARCLY_LOG` and `RUST_LOG` count, and warnings by default.
fn start_log(flag: Option<String>) -> Result<(), Failure> {
    let variable = |name| std::env::var(name).ok();
    let filter = flag.or_else(|| variable("ARCLY_LOG")).or_else(|| variable("RUST_LOG"));
    Ok(log::init(&LogConfig { filter: filter.unwrap_or_else(|| "warn".into()), ..LogConfig::default() })?)
}
