//! Runs a target over its committed inputs and over mutations of them, the same ones every time.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Mutations per input.
const MUTATIONS: u64 = 2_000;
/// Bytes that the mutations of one input may add up to, so that large seeds do not slow the tests down.
const MUTATED_BYTES: usize = 8 << 20;
/// Inputs up to this length are also tried cut at every byte.
const CUT_UP_TO: usize = 2_048;

/// Runs `target` over `seeds/name` and `crashers/name`.
///
/// # Panics
/// When the target does; the input is kept in `crashers/name` and named.
pub fn replay(name: &str, target: fn(&[u8])) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let seeds = inputs(&here.join("seeds").join(name));
    assert!(!seeds.is_empty(), "seeds/{name} is empty: a target starts from valid inputs");
    let crashers_dir = here.join("crashers").join(name);
    let try_one = |input: &[u8], origin: &str| {
        if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
            let kept = keep(&crashers_dir, input);
            panic!("{name} fails on {origin}; the input is kept in {}", kept.display());
        }
    };
    try_one(&[], "empty input");
    for (path, input) in seeds.into_iter().chain(inputs(&crashers_dir)) {
        try_one(&input, &path.display().to_string());
        for cut in 0..input.len().min(CUT_UP_TO) {
            try_one(
                input.get(..cut).unwrap_or_default(),
                &format!("the first {cut} bytes of {}", path.display()),
            );
        }
        let affordable = (MUTATED_BYTES / input.len().max(1)) as u64;
        for seed in 0..MUTATIONS.min(affordable) {
            try_one(&mutate(&input, seed), &format!("mutation {seed} of {}", path.display()));
        }
    }
}

/// The files of a folder, in order of name.
fn inputs(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.sort();
    paths.into_iter().filter_map(|path| fs::read(&path).ok().map(|bytes| (path, bytes))).collect()
}

/// Writes a failing input where the next run finds it.
fn keep(dir: &Path, input: &[u8]) -> PathBuf {
    // FNV-1a: only a name.
    let hash = input
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    let path = dir.join(format!("replay-{hash:016x}"));
    let written = fs::create_dir_all(dir).and_then(|()| fs::write(&path, input));
    if let Err(error) = written {
        eprintln!("{}: {error}", path.display());
    }
    path
}

/// `input` with one to eight small changes: the ones that find length and count mistakes.
fn mutate(input: &[u8], seed: u64) -> Vec<u8> {
    const INTERESTING: [u8; 8] = [0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF, b'/'];
    let mut rng = SplitMix(seed);
    let mut bytes = input.to_vec();
    for _ in 0..=rng.below(8) {
        let at = rng.below(bytes.len().max(1));
        let pick = INTERESTING[rng.below(INTERESTING.len())];
        match rng.below(7) {
            0 => bytes.iter_mut().skip(at).take(1).for_each(|b| *b ^= 1 << (seed % 8)),
            1 => bytes.iter_mut().skip(at).take(1).for_each(|b| *b = pick),
            2 => bytes.iter_mut().skip(at).take(4).for_each(|b| *b = pick),
            3 => bytes.truncate(at),
            4 => bytes.insert(at.min(bytes.len()), pick),
            5 => {
                let end = bytes.len().min(at + 1 + rng.below(16));
                bytes.drain(at.min(end)..end);
            }
            _ => {
                let end = bytes.len().min(at + 1 + rng.below(64));
                let repeated = bytes.get(at..end).unwrap_or_default().to_vec();
                bytes.splice(at.min(end)..at.min(end), repeated);
            }
        }
    }
    bytes
}

/// Sebastiano Vigna's SplitMix64: small, and the same everywhere.
struct SplitMix(u64);

impl SplitMix {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    const fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
