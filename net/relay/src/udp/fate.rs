//! What becomes of a datagram.

use std::time::Duration;

/// How bad a link is. Shares are of all datagrams, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Weather {
    /// Share that is lost.
    pub loss: f64,
    /// Share that is passed on twice.
    pub doubled: f64,
    /// Share that is held back, so that later ones overtake it.
    pub held_back: f64,
    /// How long one way takes.
    pub delay: Duration,
    /// How much longer it takes at most for one that is held back, and for the second of two.
    pub hold: Duration,
}

/// What becomes of one datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It never arrives.
    Lost,
    /// It arrives.
    Passed {
        /// This long from now.
        after: Duration,
        /// And once more this long after that.
        again_after: Option<Duration>,
        /// Whether `after` is longer than the link's own delay.
        held_back: bool,
    },
}

/// The row of fates of one direction of one flow.
#[derive(Debug, Clone)]
pub struct Luck {
    state: u64,
}

impl Luck {
    /// The row that follows from `seed` and the number of the direction.
    pub fn new(seed: u64, direction: u64) -> Self {
        Self {
            state: mix(seed ^ mix(direction)),
        }
    }

    /// The next datagram's fate. Draws as often whatever the weather is, so that a change of weather changes no later draw.
    pub fn next(&mut self, weather: &Weather) -> Fate {
        let [loss, doubled, held, by] = [(); 4].map(|()| self.draw());
        if loss < weather.loss {
            return Fate::Lost;
        }
        let extra = weather.hold.mul_f64(by);
        let held_back = held < weather.held_back;
        Fate::Passed {
            after: weather.delay + if held_back { extra } else { Duration::ZERO },
            again_after: (doubled < weather.doubled).then_some(extra),
            held_back,
        }
    }

    /// Uniform in [0, 1).
    fn draw(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mix(self.state) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// SplitMix64's output function (Steele, Lea and Flood 2014).
fn mix(x: u64) -> u64 {
    let mut z = x;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
