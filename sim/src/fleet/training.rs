//! Training in virtual time, and clients that go away.

use aimass_federation::agent::Event as News;
use aimass_federation::coordinator::Event;
use aimass_protocol::{ContributionId, Digest, Timestamp};

use super::client::{Running, Trained};
use super::{Fleet, Happening, Selection, Workshop};

/// A client tells its progress so many times a training, and not more often than this.
const TOLD: u64 = 8;
const TOLD_MS: u64 = 5_000;
/// Reading the data and making the plan.
const PREPARES_MS: u64 = 100;
/// A server notices after this time that a client is gone which did not say so: its connection is idle.
const IDLE_MS: u64 = 30_000;

impl<W: Workshop> Fleet<W> {
    pub(super) fn train(&mut self, client: u32, base: Digest, finish_by: Option<Timestamp>) {
        let effort = self.workshop.effort(client);
        let whole_ms = PREPARES_MS + (1000.0 * effort.gflop / self.clients.gflops(client).max(1e-6)) as u64;
        self.counts.trainings += 1;
        let now = self.now;
        let drops_out = self.happens(self.setup.dropout.training);
        let Some(active) = self.active.get_mut(&client) else { return };
        let before_ms = active.kept.progress.filter(|(of, _)| *of == base).map_or(0, |(_, done)| done);
        let left_ms = whole_ms.saturating_sub(before_ms).max(1);
        let until = finish_by.map_or(u64::MAX, |by| active.clock.when(by));
        let ends = (now + left_ms).min(until.max(now + 1));
        let life = active.life;
        active.training = Some(Running {
            base,
            since: now,
            before_ms,
            all_ms: before_ms + left_ms,
        });
        if drops_out {
            let at = now + self.chance.below((ends - now).max(1));
            self.at(
                at,
                Happening::Leave {
                    client,
                    life,
                    drops_out: true,
                },
            );
        }
        self.at(ends, Happening::Trained { client, life });
        let told_ms = TOLD_MS.max(left_ms / TOLD);
        if now + told_ms < ends {
            self.after(told_ms, Happening::Progressed { client, life });
        }
    }

    pub(super) fn progressed(&mut self, client: u32, life: u32) {
        let now = self.now;
        let Some(active) = self.active.get(&client).filter(|active| active.life == life) else {
            return;
        };
        let Some(running) = active.training else { return };
        let done_ms = running.before_ms + now - running.since;
        let percent = u8::try_from(100 * done_ms / running.all_ms.max(1)).unwrap_or(100).min(100);
        let told_ms = TOLD_MS.max((running.all_ms - running.before_ms) / TOLD);
        self.after(told_ms, Happening::Progressed { client, life });
        self.tell_client(client, News::Progressed { percent });
    }

    pub(super) fn trained(&mut self, client: u32, life: u32) {
        let now = self.now;
        let effort = self.workshop.effort(client);
        let contribution = ContributionId::from_bytes(self.chance.bytes());
        let Some(active) = self.active.get_mut(&client).filter(|active| active.life == life) else {
            return;
        };
        let Some(running) = active.training.take() else { return };
        let spent_ms = now - running.since;
        let done_ms = running.before_ms + spent_ms;
        let steps = (done_ms < running.all_ms).then(|| {
            let part = effort.steps as f64 * done_ms as f64 / running.all_ms as f64;
            (part as u64).clamp(1, effort.steps.max(1))
        });
        active.kept.progress = None;
        active.kept.trained = Some(Trained {
            contribution,
            base: running.base,
            steps,
        });
        self.spend(client, spent_ms, 0);
        let news = News::Trained {
            job: self.job,
            base: running.base,
            contribution,
        };
        self.tell_client(client, news);
    }

    /// Draws with this probability.
    fn happens(&mut self, probability: f64) -> bool {
        const PARTS: u64 = 1_000_000;
        (self.chance.below(PARTS) as f64) < probability * PARTS as f64
    }

    /// Counts energy.
    pub(super) fn spend(&mut self, client: u32, train_ms: u64, bytes: u64) {
        let joules = self.clients.energy_j(client, train_ms, bytes);
        self.counts.energy_j += joules;
        if let Some(active) = self.active.get_mut(&client) {
            active.spent_j += joules;
        }
    }

    /// Whether the client is lost as it begins to upload.
    pub(super) fn drops_out_of_upload(&mut self, client: u32, life: u32) -> bool {
        let drops_out = self.happens(self.setup.dropout.upload);
        if drops_out {
            self.leave(client, life, true);
        }
        drops_out
    }

    /// Its window is over, or it drops out: the process ends, what it has persisted stays.
    pub(super) fn leave(&mut self, client: u32, life: u32, drops_out: bool) {
        let now = self.now;
        let Some(active) = self.active.get_mut(&client).filter(|active| active.life == life) else {
            return;
        };
        let running = active.training.take();
        if let Some(running) = running {
            active.kept.progress = Some((running.base, running.before_ms + now - running.since));
        }
        let had_work = active.kept.has_work();
        if let Some(running) = running {
            self.spend(client, now - running.since, 0);
        }
        self.counts.dropped += u32::from(had_work);
        self.retire(client);
        // A process that ends says so; one that drops out does not.
        let ms = if drops_out { IDLE_MS } else { 0 };
        self.after(ms, Happening::Gone { client, life });
        let back_at = if drops_out {
            now + 1000 * self.chance.within(self.setup.dropout.back_after_s)
        } else {
            now + 1
        };
        if (had_work || self.setup.selection == Selection::Arrival)
            && let Some(window) = self.clients.window(client, back_at)
        {
            self.at(window.from_ms.max(back_at), Happening::Wake { client });
        }
        self.disengage(client);
    }

    /// The server notices that a client is gone, unless it is back.
    pub(super) fn gone(&mut self, client: u32, _life: u32) {
        if self.active.contains_key(&client) {
            return;
        }
        let agent = self.names.agent(client, &mut self.trust);
        self.tell_server(Event::Gone { agent });
    }
}
