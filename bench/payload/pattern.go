package payload

// Period is the length in bytes after which the filling repeats.
const Period = 65521

// maxRun is how many bytes of filling are contiguous in memory from any place.
const maxRun = 65536

// filling is the block, long enough that a run of maxRun can begin anywhere in it.
type filling []byte

// newFilling returns the one filling that both ends know (a splitmix64 sequence).
func newFilling() filling {
	f := make(filling, Period+maxRun)
	state := uint64(1)
	for i := range Period {
		state += 0x9e3779b97f4a7c15
		z := (state ^ state>>30) * 0xbf58476d1ce4e5b9
		f[i] = byte(z >> 56)
	}
	for i := Period; i < len(f); i++ {
		f[i] = f[i-Period]
	}
	return f
}

// run returns the n bytes (at most maxRun) that stand at offset off of a message.
func (f filling) run(off, n int) []byte {
	at := off % Period
	return f[at : at+n]
}
