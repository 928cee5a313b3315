//! The external programs that interop tests talk to: where they are, and how they are installed.
//!
//! A test finds a program through an environment variable that `cargo xtask test` sets. A variable that is
//! set already is believed, so that anybody can test against a program of their own; an empty one means that
//! the program is not there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::run::{Result, no_more, root, run};

/// imageio-ffmpeg wheels carry a static FFmpeg; this one is FFmpeg 9, which speaks Enhanced RTMP.
const IMAGEIO_FFMPEG: &str = "imageio-ffmpeg==0.8.1";
/// WebRTC in Python: a peer that is no browser.
const AIORTC: &str = "aiortc==1.16.0";
const PLAYWRIGHT: &str = "playwright-core@1.65.1";
/// Players of DASH, in pages of tests only.
const DASH_PLAYERS: &[&str] = &["dashjs@5.2.1", "shaka-player@5.2.12"];

/// Where a program comes from.
enum Source {
    Debian(&'static [&'static str]),
    Pip(&'static str),
    Npm(&'static [&'static str]),
}

struct Tool {
    name: &'static str,
    /// The variable through which tests find it.
    env: &'static str,
    find: fn() -> Option<PathBuf>,
    source: Source,
}

const TOOLS: &[Tool] = &[
    Tool {
        name: "ffmpeg",
        env: "ARCLY_FFMPEG",
        find: || on_path("ffmpeg"),
        source: Source::Debian(&["ffmpeg"]),
    },
    Tool {
        name: "ffprobe",
        env: "ARCLY_FFPROBE",
        find: || on_path("ffprobe"),
        source: Source::Debian(&["ffmpeg"]),
    },
    Tool { name: "ffmpeg 9", env: "ARCLY_FFMPEG9", find: ffmpeg9, source: Source::Pip(IMAGEIO_FFMPEG) },
    Tool { name: "python with aiortc", env: "ARCLY_AIORTC", find: aiortc, source: Source::Pip(AIORTC) },
    Tool {
        name: "gst-launch-1.0",
        env: "ARCLY_GST_LAUNCH",
        find: gst_launch,
        source: Source::Debian(&[
            "gstreamer1.0-tools",
            "gstreamer1.0-plugins-base",
            "gstreamer1.0-plugins-good",
            "gstreamer1.0-plugins-bad",
            "gstreamer1.0-plugins-ugly",
            "gstreamer1.0-libav",
            "gstreamer1.0-rtsp",
        ]),
    },
    Tool {
        name: "rtmpdump",
        env: "ARCLY_RTMPDUMP",
        find: || on_path("rtmpdump"),
        source: Source::Debian(&["rtmpdump"]),
    },
    Tool {
        name: "srt-live-transmit",
        env: "ARCLY_SRT_LIVE_TRANSMIT",
        find: || on_path("srt-live-transmit"),
        source: Source::Debian(&["srt-tools"]),
    },
    Tool {
        name: "nginx with its rtmp module",
        env: "ARCLY_NGINX",
        find: nginx,
        source: Source::Debian(&["nginx", "libnginx-mod-rtmp"]),
    },
    Tool { name: "nft", env: "ARCLY_NFT", find: nft, source: Source::Debian(&["nftables", "iproute2"]) },
    Tool {
        name: "chromium",
        env: "ARCLY_CHROMIUM",
        find: || on_path("chromium"),
        source: Source::Debian(&["chromium"]),
    },
    Tool {
        name: "node with playwright-core",
        env: "ARCLY_NODE_MODULES",
        find: node_modules,
        source: Source::Npm(&[PLAYWRIGHT]),
    },
    Tool {
        name: "dash.js and shaka-player",
        env: "ARCLY_DASH_PLAYERS",
        find: dash_players,
        source: Source::Npm(DASH_PLAYERS),
    },
];

/// The programs on this machine.
pub(crate) struct Found {
    /// Variable and value, for the tests' environment.
    pub(crate) env: Vec<(&'static str, PathBuf)>,
    /// Names of those that are not here.
    pub(crate) missing: Vec<&'static str>,
}

/// Looks for every program and prints where each is.
pub(crate) fn find() -> Found {
    let mut found = Found { env: Vec::new(), missing: Vec::new() };
    for tool in TOOLS {
        if let Some(path) = tool.locate() {
            println!("{:>27}  {}", tool.name, path.display());
            found.env.push((tool.env, path));
        } else {
            println!("{:>27}  not found", tool.name);
            found.missing.push(tool.name);
        }
    }
    found
}

/// Where programs are, for those that are started with it; those that are not here are given as nothing.
pub(crate) fn environment() -> Vec<(&'static str, PathBuf)> {
    TOOLS.iter().map(|tool| (tool.env, tool.locate().unwrap_or_default())).collect()
}

/// Installs what is missing; leaves alone what is there.
pub(crate) fn install() -> Result {
    let missing: Vec<&Tool> = TOOLS.iter().filter(|tool| tool.locate().is_none()).collect();
    let mut debian: Vec<&str> = Vec::new();
    for tool in &missing {
        if let Source::Debian(packages) = tool.source {
            debian.extend(packages.iter().filter(|p| !debian.contains(p)).copied().collect::<Vec<_>>());
        }
    }
    if missing.iter().any(|tool| matches!(tool.source, Source::Pip(_))) && !has_venv() {
        debian.push("python3-venv");
    }
    if !debian.is_empty() {
        run(&mut apt_get(&["update"]))?;
        run(apt_get(&["install", "--yes", "--no-install-recommends"]).args(&debian))?;
    }
    for tool in missing {
        match tool.source {
            Source::Debian(_) => {}
            Source::Pip(package) => pip_install(package)?,
            Source::Npm(packages) => npm_install(packages)?,
        }
    }
    Ok(())
}

pub(crate) fn main(args: &[String]) -> Result {
    no_more(args)?;
    find();
    Ok(())
}

impl Tool {
    fn locate(&self) -> Option<PathBuf> {
        match std::env::var_os(self.env) {
            Some(path) if path.is_empty() => None,
            Some(path) => Some(path.into()),
            None => (self.find)(),
        }
    }
}

/// Where pip and npm put what they install: inside the build folder, so that nothing else is touched.
fn tools_dir() -> PathBuf {
    root().join("target/tools")
}

pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Debian keeps servers outside an ordinary user's path.
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    dirs.map(|dir| dir.join(program)).find(|candidate| candidate.is_file())
}

fn ffmpeg9() -> Option<PathBuf> {
    let lib = tools_dir().join("venv/lib");
    entries(&lib).into_iter().find_map(|python| {
        let binaries = python.join("site-packages/imageio_ffmpeg/binaries");
        entries(&binaries).into_iter().find(|path| file_name(path).starts_with("ffmpeg-"))
    })
}

fn aiortc() -> Option<PathBuf> {
    let python = tools_dir().join("venv/bin/python");
    // What it needs of the system may not be there though the package is.
    quiet(Command::new(&python).args(["-c", "import aiortc"])).then_some(python)
}

fn gst_launch() -> Option<PathBuf> {
    let launch = on_path("gst-launch-1.0")?;
    let inspect = on_path("gst-inspect-1.0")?;
    let has = |element: &str| quiet(Command::new(&inspect).arg(element));
    ["rtmp2sink", "flvmux", "h264parse", "x264enc", "voaacenc", "avenc_aac", "rtspclientsink"]
        .into_iter()
        .all(has)
        .then_some(launch)
}

fn nginx() -> Option<PathBuf> {
    let module = Path::new("/usr/lib/nginx/modules/ngx_rtmp_module.so");
    on_path("nginx").filter(|_| module.is_file())
}

fn nft() -> Option<PathBuf> {
    on_path("nft").filter(|_| on_path("ip").is_some())
}

fn node_modules() -> Option<PathBuf> {
    let modules = tools_dir().join("npm/node_modules");
    on_path("node").filter(|_| modules.join("playwright-core/package.json").is_file()).map(|_| modules)
}

fn dash_players() -> Option<PathBuf> {
    let modules = tools_dir().join("npm/node_modules");
    let there = |package: &str| modules.join(package).join("package.json").is_file();
    (there("dashjs") && there("shaka-player")).then_some(modules)
}

fn has_venv() -> bool {
    quiet(Command::new("python3").args(["-c", "import venv, ensurepip"]))
}

fn pip_install(package: &str) -> Result {
    let venv = tools_dir().join("venv");
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", package]))
}

fn npm_install(packages: &[&str]) -> Result {
    let prefix = tools_dir().join("npm");
    std::fs::create_dir_all(&prefix).map_err(|e| format!("{}: {e}", prefix.display()))?;
    let install = ["install", "--no-fund", "--no-audit"];
    run(Command::new("npm").arg("--prefix").arg(&prefix).args(install).args(packages))
}

/// `apt-get`, through `sudo` for anybody but root.
fn apt_get(args: &[&str]) -> Command {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.trim_ascii() == b"0");
    let mut command = if is_root {
        Command::new("env")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("env");
        sudo
    };
    // Runlevel 1 keeps packages such as nginx from starting their service.
    command.args(["DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "--quiet"]).args(args);
    command
}

fn quiet(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
