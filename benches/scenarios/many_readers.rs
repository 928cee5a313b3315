//! 4 000 players of a 600 kbit/s stream, and 10 000 that are connected to a quiet one.
//!
//! **Question.** What happens when there are more sockets than anybody looks at one by one?
//!
//! **Hypothesis.** The cost of a player stays that of its writes; ticks widen when a pass over everybody takes long.
//!
//! **Decision rule.** No frame lost, no stall, nobody dropped; CPU time beside the floor that merges 100 ms, as in `rtmp_play`.
//! The floor that writes each message by itself does not get so many in.

use arcly_benches::load::play::{Contender, compare, floors, modes};
use arcly_benches::load::{Protocol, Shape, scenario};

const MANY: u64 = 4_000;
const CONNECTED: u64 = 10_000;
/// A camera that nobody needs to see well: 20 kbit/s.
const QUIET: Shape = Shape { pictures: 5, gop: 10, key_bytes: 2_000, picture_bytes: 300, sound_bytes: 0 };

fn main() {
    scenario::main("many_readers", |options| {
        for (readers, shape) in [(MANY, Shape::LOW), (CONNECTED, QUIET)] {
            // Sockets and what else a process has open, here and in the server.
            let files = readers + 400;
            if scenario::file_limit() < files {
                eprintln!(
                    "many_readers: {readers} are left out, they need {files} open files; see `ulimit -n`"
                );
                continue;
            }
            let [_, merged] = floors(&Protocol::rtmp(), shape);
            let [_, default, throughput] = modes();
            let default = Contender { target: default.target.map(|target| target.losses_only()), ..default };
            let readers = usize::try_from(readers).unwrap_or_default();
            compare(options, &Protocol::rtmp(), shape, &[readers], &[merged, default, throughput]);
        }
    });
}
