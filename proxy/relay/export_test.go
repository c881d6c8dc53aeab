package relay

// What the tests count to.
const (
	MostTarpitted = mostTarpitted
	MostInterims  = mostInterims
)
