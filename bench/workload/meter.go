package workload

import (
	"time"

	"github.com/sconce-dev/sconce/bench/proc"
	"github.com/sconce-dev/sconce/bench/table"
)

// Figures that a meter puts into table.Values.
const (
	figureWall     = "wall_s"
	figureCPU      = "cpu_s"
	figureUser     = "user_s"
	figureSwitches = "switches"
	figureIdle     = "rss_before_bytes"
	figurePeak     = "rss_peak_bytes"
	figureRSS      = "rss_after_bytes"
)

// meter counts what a proxy uses from start to stop.
type meter struct {
	pid    int
	tree   []int
	before proc.Usage
	began  time.Time
}

// start begins to count. The memory peak begins anew.
func (r Rig) start() (*meter, error) {
	m := &meter{pid: r.PID, began: time.Now()}
	if r.PID == 0 {
		return m, nil
	}
	var err error
	if m.tree, err = proc.Tree(r.PID); err != nil {
		return nil, err
	}
	if err := proc.ResetPeak(m.tree); err != nil {
		return nil, err
	}
	if m.before, err = proc.Read(m.tree); err != nil {
		return nil, err
	}
	m.began = time.Now()
	return m, nil
}

// stop returns what was used since start.
func (m *meter) stop() (table.Values, error) {
	v := table.Values{figureWall: time.Since(m.began).Seconds()}
	if m.pid == 0 {
		return v, nil
	}
	after, err := proc.Read(m.tree)
	if err != nil {
		return nil, err
	}
	used := after.Sub(m.before)
	v[figureCPU] = used.CPU().Seconds()
	v[figureUser] = used.User.Seconds()
	v[figureSwitches] = float64(used.Switches)
	v[figureIdle] = float64(m.before.RSS)
	v[figurePeak] = float64(after.Peak)
	v[figureRSS] = float64(after.RSS)
	return v, nil
}

// measured runs do between start and stop.
func (r Rig) measured(do func() error) (table.Values, error) {
	m, err := r.start()
	if err != nil {
		return nil, err
	}
	if err := do(); err != nil {
		return nil, err
	}
	return m.stop()
}
