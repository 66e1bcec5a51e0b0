//! Places in a round: who trains for it, and whether that still goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use aimass_protocol::{AgentId, Timestamp};

use super::patience::{History, Task};

/// An agent's place among the `round.max` that train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seat {
    /// When it was taken: asking for work again does not make that later, or a device that always fails would keep it for ever.
    since: Timestamp,
    /// When its agent was last given work; `None` once it has offered what came of it.
    began: Option<Timestamp>,
    /// When it last got further.
    heard: Timestamp,
    percent: u8,
    gone_since: Option<Timestamp>,
}

impl Seat {
    fn new(now: Timestamp) -> Self {
        Self {
            since: now,
            began: Some(now),
            heard: now,
            percent: 0,
            gone_since: None,
        }
    }

    /// From when on the seat may be given to another, if it is not heard of: the round's time is over; or it takes longer than this device ever does and
    /// does not get further; or it is gone, and nothing is known about how long it takes.
    fn silent_at(&self, patience: Option<Duration>, rules: Rules) -> Timestamp {
        let late = match patience {
            Some(patience) => Some(self.since.after(patience).max(self.heard.after(rules.quiet))),
            None => self.gone_since.map(|gone| gone.after(rules.quiet)),
        };
        let over = self.since.after(rules.max_time);
        late.map_or(over, |late| late.min(over))
    }
}

/// When a seat is lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// The round's longest time.
    pub(super) max_time: Duration,
    /// How long a device that is late or gone may be without any progress.
    pub(super) quiet: Duration,
}

/// All places of a job.
#[derive(Debug, Clone, Default)]
pub(super) struct Seats {
    taken: BTreeMap<AgentId, Seat>,
    /// No seat of an agent that does not wait falls silent before, by these rules: so that those who ask while all are taken need not look at each. It follows
    /// from the rest.
    none_silent: Option<(Timestamp, Rules)>,
}

impl PartialEq for Seats {
    fn eq(&self, other: &Self) -> bool {
        self.taken == other.taken
    }
}

impl Seats {
    pub(super) fn len(&self) -> usize {
        self.taken.len()
    }

    pub(super) fn count(&self, of: impl Fn(AgentId) -> bool) -> usize {
        self.taken.keys().filter(|agent| of(**agent)).count()
    }

    /// Gives or renews a seat, whatever is taken: its agent has trained. Says how long that took, the first time.
    pub(super) fn hold(&mut self, now: Timestamp, agent: AgentId) -> Option<Duration> {
        let began = self.taken.get(&agent).and_then(|seat| seat.began);
        let seat = Seat {
            began: None,
            ..Seat::new(now)
        };
        self.taken.insert(agent, seat);
        self.changed(now);
        began.map(|began| now.since(began))
    }

    /// Gives `agent` a seat, or leaves it the one that it has, after freeing those of agents that fell silent. `waits` says who has trained already. False
    /// if `max` are taken.
    pub(super) fn take(
        &mut self,
        now: Timestamp,
        agent: AgentId,
        max: usize,
        rules: Rules,
        history: &History,
        waits: impl Fn(AgentId) -> bool,
    ) -> bool {
        if let Some(seat) = self.taken.get_mut(&agent) {
            *seat = Seat {
                since: seat.since,
                ..Seat::new(now)
            };
            return true;
        }
        if self.taken.len() >= max {
            self.free(now, rules, history, waits);
        }
        let free = self.taken.len() < max;
        if free {
            self.taken.insert(agent, Seat::new(now));
            self.changed(now);
        }
        free
    }

    /// Frees the seats of agents that fell silent.
    pub(super) fn free(&mut self, now: Timestamp, rules: Rules, history: &History, waits: impl Fn(AgentId) -> bool) {
        if self.none_silent.is_some_and(|(until, _)| now < until) {
            return;
        }
        let mut next = Timestamp::from_ms(u64::MAX);
        self.taken.retain(|agent, seat| {
            if waits(*agent) {
                return true;
            }
            let at = seat.silent_at(history.patience(*agent, Task::Training), rules);
            let stays = now < at;
            if stays {
                next = next.min(at);
            }
            stays
        });
        self.none_silent = Some((next, rules));
    }

    /// A seat is new, or its agent left: it does not fall silent at once. What else happens to seats makes that later, but that their agents wait no more.
    fn changed(&mut self, now: Timestamp) {
        if let Some((until, rules)) = &mut self.none_silent {
            *until = now.after(rules.quiet.min(rules.max_time)).min(*until);
        }
    }

    /// Agents wait no more whose seats are not given to others while they do.
    pub(super) fn look_again(&mut self) {
        self.none_silent = None;
    }

    /// One agent waits no more.
    pub(super) fn waits_no_more(&mut self, agent: AgentId, history: &History) {
        if let Some((until, rules)) = &mut self.none_silent
            && let Some(seat) = self.taken.get(&agent)
        {
            let at = seat.silent_at(history.patience(agent, Task::Training), *rules);
            *until = at.min(*until);
        }
    }

    /// The agent says how far it is. Only getting further counts.
    pub(super) fn progressed(&mut self, now: Timestamp, agent: AgentId, percent: u8) {
        if let Some(seat) = self.taken.get_mut(&agent)
            && percent > seat.percent
        {
            seat.percent = percent;
            seat.heard = now;
            seat.gone_since = None;
        }
    }

    /// Its connection closed.
    pub(super) fn gone(&mut self, now: Timestamp, agent: AgentId) {
        if let Some(seat) = self.taken.get_mut(&agent) {
            seat.gone_since.get_or_insert(now);
            self.changed(now);
        }
    }

    /// It is here again.
    pub(super) fn back(&mut self, agent: AgentId) {
        if let Some(seat) = self.taken.get_mut(&agent) {
            seat.gone_since = None;
        }
    }

    pub(super) fn leave(&mut self, agent: AgentId) {
        self.taken.remove(&agent);
    }

    pub(super) fn clear(&mut self) {
        self.taken.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::fixtures::{agent, at_s};

    const RULES: Rules = Rules {
        max_time: Duration::from_secs(1000),
        quiet: Duration::from_secs(30),
    };

    /// Whether agent 2 gets the one seat that agent 1 took at 0, with `doing` done to it, at `at`.
    fn lost_at(at: u64, past_s: Option<u64>, doing: impl FnOnce(&mut Seats)) -> bool {
        let (mut seats, mut history) = (Seats::default(), History::default());
        if let Some(s) = past_s {
            for _ in 0..50 {
                history.learn(agent(1), Task::Training, Duration::from_secs(s));
            }
        }
        assert!(seats.take(at_s(0), agent(1), 1, RULES, &history, |_| false));
        doing(&mut seats);
        seats.take(at_s(at), agent(2), 1, RULES, &history, |_| false)
    }

    #[test]
    fn should_wait_for_an_unknown_device_as_long_as_the_round_may_take() {
        assert!(!lost_at(999, None, |_| {}));
        assert!(lost_at(1000, None, |_| {}));
    }

    #[test]
    fn should_not_wait_for_an_unknown_device_that_left() {
        assert!(!lost_at(39, None, |s| s.gone(at_s(10), agent(1))));
        assert!(lost_at(40, None, |s| s.gone(at_s(10), agent(1))));
        assert!(!lost_at(40, None, |s| {
            s.gone(at_s(10), agent(1));
            s.back(agent(1));
        }));
    }

    #[test]
    fn should_give_up_a_known_device_when_it_is_late_and_stands_still() {
        assert!(!lost_at(101, Some(100), |_| {}), "some slack is left");
        assert!(lost_at(120, Some(100), |_| {}));
        let moves = |s: &mut Seats| s.progressed(at_s(100), agent(1), 50);
        assert!(!lost_at(120, Some(100), moves), "it gets further");
        assert!(lost_at(130, Some(100), moves));
    }

    #[test]
    fn should_let_a_known_device_train_offline() {
        assert!(!lost_at(90, Some(100), |s| s.gone(at_s(1), agent(1))));
    }

    #[test]
    fn should_not_keep_the_seat_of_a_device_that_fails_and_asks_again_and_again() {
        let mut seats = Seats::default();
        let history = History::default();
        for at in [0, 300, 600, 900] {
            assert!(seats.take(at_s(at), agent(1), 1, RULES, &history, |_| false));
            assert!(!seats.take(at_s(at + 50), agent(2), 1, RULES, &history, |_| false));
        }
        assert!(seats.take(at_s(1000), agent(2), 1, RULES, &history, |_| false));
    }

    /// What is remembered of when seats fall silent changes nothing: the same is done to seats that forget it before each question.
    #[test]
    fn should_free_the_same_seats_as_one_that_looks_at_each_every_time() {
        let mut history = History::default();
        for n in 1..4 {
            history.learn(agent(n), Task::Training, Duration::from_secs(40 * u64::from(n)));
        }
        for seed in 0..50u64 {
            let (mut seats, mut waiting) = (Seats::default(), BTreeSet::new());
            let mut looks = seats.clone();
            let mut state = seed;
            for step in 0..400 {
                state = crate::jitter::mix(state);
                let (now, who) = (at_s(step * 7), agent((state % 8) as u8));
                let mut both = |what: &dyn Fn(&mut Seats)| {
                    what(&mut seats);
                    what(&mut looks);
                };
                match state >> 8 & 7 {
                    0 => both(&|seats| seats.gone(now, who)),
                    1 => both(&|seats| seats.back(who)),
                    2 => both(&|seats| seats.progressed(now, who, (state >> 16 & 63) as u8)),
                    3 => {
                        waiting.insert(who);
                        both(&|seats| _ = seats.hold(now, who));
                    }
                    4 if waiting.remove(&who) => both(&|seats| seats.waits_no_more(who, &history)),
                    5 => both(&|seats| seats.leave(who)),
                    _ => {
                        looks.look_again();
                        let waits = |agent| waiting.contains(&agent);
                        let taken = seats.take(now, who, 4, RULES, &history, waits);
                        assert_eq!(taken, looks.take(now, who, 4, RULES, &history, waits), "seed {seed}, step {step}");
                    }
                }
                assert_eq!(seats, looks, "seed {seed}, step {step}");
            }
        }
    }

    #[test]
    fn should_say_once_how_long_training_took() {
        let mut seats = Seats::default();
        seats.take(at_s(10), agent(1), 1, RULES, &History::default(), |_| false);
        assert_eq!(seats.hold(at_s(40), agent(1)), Some(Duration::from_secs(30)));
        assert_eq!(seats.hold(at_s(100), agent(1)), None, "it only waited since");
    }

    #[test]
    fn should_not_take_a_repeated_figure_for_progress() {
        assert!(lost_at(120, Some(100), |s| {
            s.progressed(at_s(50), agent(1), 50);
            s.progressed(at_s(119), agent(1), 50);
        }));
    }
}
