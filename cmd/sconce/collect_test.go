package main

import "testing"

func TestGarbagePercent(t *testing.T) {
	for _, tt := range []struct {
		name string
		live uint64
		want int
	}{
		{"nothing measured yet", 0, mostPercent},
		{"idle", 3 << 20, mostPercent},
		{"twelve megabytes", 12 << 20, 100},
		{"between steps", 13 << 20, 90},
		{"ten thousand connections", 64 << 20, leastPercent},
		{"very large", 1 << 40, leastPercent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := garbagePercent(tt.live); got != tt.want {
				t.Errorf("garbagePercent(%d) = %d, want %d", tt.live, got, tt.want)
			}
		})
	}
}

func TestQuietHeapIsGivenBackOnce(t *testing.T) {
	const mib = 1 << 20
	var h heapWatch
	look := func(allocs, inUse uint64) bool {
		_, release := h.look(3*mib, allocs, inUse)
		return release
	}
	steps := []struct {
		name          string
		allocs, inUse uint64
		want          bool
	}{
		{"busy", 100 * mib, 50 * mib, false},
		{"quiet with little in use", 100*mib + 1, 10 * mib, false},
		{"quiet", 100*mib + 2, 50 * mib, true},
		{"still quiet", 100*mib + 3, 50 * mib, false},
		{"busy again", 200 * mib, 50 * mib, false},
		{"quiet too soon after the last time", 200 * mib, 50 * mib, false},
	}
	for _, tt := range steps {
		if got := look(tt.allocs, tt.inUse); got != tt.want {
			t.Errorf("%s: release is %v", tt.name, got)
		}
	}
	later := false
	for range restLooks {
		later = later || look(200*mib, 50*mib)
	}
	if !later {
		t.Error("never given back again")
	}
}
