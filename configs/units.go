package configs

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes, written "64KiB", "1MiB", "2GiB" or a bare number.
type Size int64

// units in the order in which they are tried, so that "B" does not eat "KiB".
var units = []struct {
	name  string
	bytes int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"B", 1}, {"", 1}}

var errSize = errors.New(`not a size: write bytes or a whole number of KiB, MiB or GiB, such as 64KiB`)

// ParseSize reads what Size.String writes.
func ParseSize(s string) (Size, error) {
	for _, u := range units {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.bytes {
			return 0, errSize
		}
		return Size(n * u.bytes), nil
	}
	return 0, errSize
}

// String writes s in the largest unit that leaves a whole number.
func (s Size) String() string {
	for _, u := range []int{2, 1, 0} {
		if b := units[u].bytes; s != 0 && int64(s)%b == 0 {
			return strconv.FormatInt(int64(s)/b, 10) + units[u].name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
