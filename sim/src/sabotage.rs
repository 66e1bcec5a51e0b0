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
    /// The server tells of survivors whose set it has not made durable.
    ForgetsSurvivors,
    /// The server tells some survivors of another set.
    TellsTwoSets,
    /// A device does not make durable that a contribution is spent.
    ForgetsSpent,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::None,
        Self::AddsTwice,
        Self::ForgetsAdditions,
        Self::ForgetsRounds,
        Self::ForgetsOpenRounds,
        Self::ForgetsSurvivors,
        Self::TellsTwoSets,
        Self::ForgetsSpent,
    ];

    /// A stable word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::AddsTwice => "adds_twice",
            Self::ForgetsAdditions => "forgets_additions",
            Self::ForgetsRounds => "forgets_rounds",
            Self::ForgetsOpenRounds => "forgets_open_rounds",
            Self::ForgetsSurvivors => "forgets_survivors",
            Self::TellsTwoSets => "tells_two_sets",
            Self::ForgetsSpent => "forgets_spent",
        }
    }

    /// The one of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }
}
