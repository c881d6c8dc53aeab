package e2e

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// What the gateway may not leave behind when all clients are gone.

// idle waits a little until the gateway counts no open and no held stream.
func (g *gateway) idle() error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		open, err := g.openStreams()
		if err == nil && open == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("all clients are gone, and sconce counts %v open or held streams: %w", open, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func (g *gateway) openStreams() (float64, error) {
	reply, err := (&http.Client{Timeout: 5 * time.Second}).Get(g.admin + "/metrics")
	if err != nil {
		return 0, err
	}
	defer reply.Body.Close()
	var sum float64
	var found bool
	lines := bufio.NewScanner(reply.Body)
	for lines.Scan() {
		text := lines.Text()
		if !strings.HasPrefix(text, "sconce_streams_open") && !strings.HasPrefix(text, "sconce_streams_held") {
			continue
		}
		value, err := strconv.ParseFloat(text[strings.LastIndexByte(text, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("metric %q: %w", text, err)
		}
		found, sum = true, sum+value
	}
	if !found {
		return 0, fmt.Errorf("%s/metrics counts no streams", g.admin)
	}
	return sum, lines.Err()
}

// memoryLimit is far below one plan of 64 MiB held whole in both directions by
// the several clients that send it.
const memoryLimit = 128 << 20

// small holds the peak memory of the process against the limit.
func (g *gateway) small() error {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.child.cmd.Process.Pid))
	if os.IsNotExist(err) {
		return nil // no /proc on this system
	}
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return fmt.Errorf("no VmHWM in the status of sconce")
	}
	peak, err := strconv.Atoi(fields[0])
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "e2e: sconce's peak memory was %d MiB\n", peak>>10)
	if peak<<10 > memoryLimit {
		return fmt.Errorf("sconce's peak memory was %d MiB, want at most %d", peak>>10, memoryLimit>>20)
	}
	return nil
}
