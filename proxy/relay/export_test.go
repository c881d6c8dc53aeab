package relay

// MostTarpitted is mostTarpitted.
const MostTarpitted = mostTarpitted
