//! Drivers that are wrong on purpose, to prove that the checks see it.

/// What a driver does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sabotage {
    /// Nothing.
    #[default]
    None,
    /// The server adds every seventh update twice.
    AddsTwice,
    /// The server acknowledges updates that it has not put on record.
    ForgetsAdditions,
    /// The server announces rounds that it has not stored.
    ForgetsRounds,
    /// The server does not make open rounds durable.
    ForgetsOpenRounds,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::None,
        Self::AddsTwice,
        Self::ForgetsAdditions,
        Self::ForgetsRounds,
        Self::ForgetsOpenRounds,
    ];

    /// A stable word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::AddsTwice => "adds_twice",
            Self::ForgetsAdditions => "forgets_additions",
            Self::ForgetsRounds => "forgets_rounds",
            Self::ForgetsOpenRounds => "forgets_open_rounds",
        }
    }

    /// The one of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }
}
