package sessions

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Loss is one thing that a new engine does not have.
type Loss struct {
	// What names it for its owner: "temporary view `x`".
	What string `json:"what"`
	// Why it could not be carried, for its owner.
	Why string `json:"why"`
	// Notable: whoever uses the session must be told before it goes on. Else
	// nothing that it computes differs, or the engine itself says so on use.
	Notable bool `json:"notable,omitempty"`
	// Seq is the entry's number in the journal.
	Seq uint64 `json:"seq,omitempty"`
}

// lossesPlace is where the losses of one generation are sealed for.
func lossesPlace(spark SparkID, generation uint64) string {
	return "lost\x00" + string(spark) + "\x00" + strconv.FormatUint(generation, 10)
}

// sealLosses puts losses into c.
func (j *Journal) sealLosses(id ID, spark SparkID, generation uint64, c *Carried, list []Loss) error {
	for _, l := range list {
		c.Notable = c.Notable || l.Notable
	}
	if len(list) == 0 {
		return nil
	}
	plain, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("encode losses: %w", err)
	}
	c.Lost, err = j.Keys.seal(id, lossesPlace(spark, generation), plain)
	return err
}

// Losses returns what the engine of that generation does not have of a Spark
// session. ErrJournalKey.
func (j *Journal) Losses(id ID, spark SparkID, generation uint64, c Carried) ([]Loss, error) {
	if len(c.Lost) == 0 {
		return nil, nil
	}
	plain, err := j.Keys.open(id, lossesPlace(spark, generation), c.Lost)
	if err != nil {
		return nil, err
	}
	var list []Loss
	if err := json.Unmarshal(plain, &list); err != nil {
		return nil, fmt.Errorf("decode losses: %w", err)
	}
	return list, nil
}

// Tell returns what the client of a Spark session must be told that its engine does
// not have, in words; "" where somebody else has told it. What was told is not told
// of the next engine again. ErrUnavailable.
func (j *Journal) Tell(ctx context.Context, s *Session, spark SparkID, c Carried) (string, error) {
	if j.Carried == nil {
		return "", nil
	}
	first, err := j.Carried.TakeLoss(ctx, s.ID, spark, s.EngineGeneration)
	if err != nil {
		return "", fmt.Errorf("tell of losses: %w", err)
	}
	if !first {
		return "", nil
	}
	list, err := j.Losses(s.ID, spark, s.EngineGeneration, c)
	if err != nil {
		return "what it was cannot be read any more", nil //nolint:nilerr // and that is what is told
	}
	for _, l := range list {
		if l.Seq != 0 {
			j.Settle(Ticket{session: s.ID, spark: spark, seq: l.Seq}, false)
		}
	}
	return LossText(list, maxLossText), nil
}

// maxLossText is about how many bytes a client is told.
const maxLossText = 500

// LossText words the notable ones of losses in one sentence part of at most about
// most bytes, and says how many more there are.
func LossText(list []Loss, most int) string {
	var b strings.Builder
	more := 0
	for _, l := range list {
		part := l.What + " (" + l.Why + ")"
		switch {
		case !l.Notable:
		case b.Len() > 0 && b.Len()+len(part) > most:
			more++
		default:
			if b.Len() > 0 {
				b.WriteString("; ")
			}
			b.WriteString(part)
		}
	}
	if more > 0 {
		fmt.Fprintf(&b, "; and %d more", more)
	}
	return b.String()
}
