"""Where NetsPresso keeps its schemas; scripts import options from below here."""
