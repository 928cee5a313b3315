//! 4 000 players of a 600 kbit/s stream.
//!
//! **Question.** What happens when there are more sockets than anybody looks at one by one?
//!
//! **Hypothesis.** The cost of a player stays that of its writes; ticks widen when a pass over everybody takes long.
//!
//! **Decision rule.** No frame lost, no stall, nobody dropped; CPU time beside the floor's as in `rtmp_play`.

use arcly_benches::load::play::{compare, floors, modes};
use arcly_benches::load::{Protocol, Shape, scenario};

const READERS: u64 = 4_000;
/// Sockets and what else a process has open, here and in the server.
const FILES: u64 = READERS + 200;

fn main() {
    scenario::main("many_readers", |options| {
        if scenario::file_limit() < FILES {
            eprintln!("many_readers: left out, needs {FILES} open files; see `ulimit -n`");
            return;
        }
        let protocol = Protocol::rtmp();
        let contenders: Vec<_> = floors(&protocol, Shape::LOW).into_iter().chain(modes()).collect();
        let readers = usize::try_from(READERS).unwrap_or_default();
        compare(options, &protocol, Shape::LOW, &[readers], &contenders);
    });
}
