package redisstore

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// recordVersion is written into every record. A change that an older Sconce
// would misread makes it 2; records of a higher version than known are not read.
const recordVersion = 1

// The fields of a record. Times are in milliseconds since 1970, spans in
// milliseconds; an absent field is the zero value.
const (
	fieldVersion    = "v"
	fieldName       = "name"
	fieldOwner      = "owner"
	fieldOrg        = "org"
	fieldCluster    = "cluster"
	fieldState      = "state"
	fieldReason     = "reason"
	fieldGeneration = "generation"
	fieldRevision   = "revision"
	fieldCreated    = "created"
	fieldChanged    = "changed"
	fieldClosed     = "closed"
	fieldRevoked    = "revoked"
	fieldEngine     = "engine" // an Instance as JSON
	fieldEngineGen  = "engine_generation"
	fieldLastUsed   = "used" // by the clock of Redis
	fieldIdled      = "idled"
	fieldStage      = "stage"   // changes without a revision
	fieldStaged     = "staged"  // likewise, by the clock of Redis
	fieldFailure    = "failure" // likewise
	fieldCatalog    = "catalog"
	fieldDatabase   = "database"
	fieldConf       = "conf"   // a JSON object
	fieldLabels     = "labels" // a JSON object
	fieldIdleAfter  = "idle_timeout"
	fieldMaxAge     = "max_age"
)

// encode returns a new record as field, value, field, value. Generation and
// revision are the scripts' business.
func encode(s sessions.Session) []any {
	fields := []any{
		fieldVersion, recordVersion,
		fieldName, s.Name,
		fieldOwner, s.Owner,
		fieldOrg, s.Org,
		fieldCluster, s.Cluster,
		fieldState, string(s.State),
		fieldReason, s.Reason,
		fieldGeneration, s.Generation,
		fieldRevision, 1,
		fieldCreated, s.CreatedAt.UnixMilli(),
		fieldChanged, s.CreatedAt.UnixMilli(),
	}
	for _, f := range []struct{ name, value string }{
		{fieldCatalog, s.Catalog}, {fieldDatabase, s.Database}, {fieldConf, string(s.Conf)}, {fieldLabels, string(s.Labels)},
	} {
		if f.value != "" {
			fields = append(fields, f.name, f.value)
		}
	}
	for _, f := range []struct {
		name  string
		value time.Duration
	}{{fieldIdleAfter, s.IdleTimeout}, {fieldMaxAge, s.MaxAge}} {
		if f.value != 0 {
			fields = append(fields, f.name, f.value.Milliseconds())
		}
	}
	return fields
}

func decode(id sessions.ID, f map[string]string) (sessions.Session, error) {
	d := decoder{fields: f}
	if v := d.number(fieldVersion); d.err == nil && v > recordVersion {
		return sessions.Session{}, fmt.Errorf("record of session %s has version %d, this Sconce knows %d: upgrade it", id, v, recordVersion)
	}
	s := sessions.Session{
		ID: id, Name: f[fieldName], Owner: f[fieldOwner], Org: f[fieldOrg], Cluster: f[fieldCluster],
		State: sessions.State(f[fieldState]), Reason: f[fieldReason],
		Generation: d.number(fieldGeneration), Revision: d.number(fieldRevision),
		CreatedAt: d.time(fieldCreated), ChangedAt: d.time(fieldChanged), ClosedAt: d.time(fieldClosed),
		Catalog: f[fieldCatalog], Database: f[fieldDatabase], Conf: sessions.Pairs(f[fieldConf]), Labels: sessions.Pairs(f[fieldLabels]),
		IdleTimeout: d.span(fieldIdleAfter), MaxAge: d.span(fieldMaxAge),
		Revoked: f[fieldRevoked], UsedAt: d.time(fieldLastUsed), IdleAt: d.time(fieldIdled), Stage: f[fieldStage], WakeFailure: f[fieldFailure],
		Engine: d.engine(), EngineGeneration: d.number(fieldEngineGen),
	}
	if s.Stage != "" {
		s.StageAt = d.time(fieldStaged)
	}
	if d.err != nil {
		return s, fmt.Errorf("record of session %s: %w", id, d.err)
	}
	if !s.State.Valid() {
		return s, fmt.Errorf("record of session %s: unknown state %q", id, s.State)
	}
	return s, nil
}

// decoder reads numbers and keeps the first error.
type decoder struct {
	fields map[string]string
	err    error
}

func (d *decoder) number(field string) uint64 {
	v := d.fields[field]
	if v == "" {
		return 0
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil && d.err == nil {
		d.err = fmt.Errorf("field %s: %w", field, err)
	}
	return n
}

func (d *decoder) engine() *sessions.Instance {
	text := d.fields[fieldEngine]
	if text == "" {
		return nil
	}
	in, err := decodeEngine(text)
	if err != nil && d.err == nil {
		d.err = fmt.Errorf("field %s: %w", fieldEngine, err)
	}
	return in
}

// encodeEngine returns "" for nil.
func encodeEngine(in *sessions.Instance) (string, error) {
	if in == nil {
		return "", nil
	}
	text, err := json.Marshal(in)
	return string(text), err
}

func decodeEngine(text string) (*sessions.Instance, error) {
	in := &sessions.Instance{}
	return in, json.Unmarshal([]byte(text), in)
}

func (d *decoder) span(field string) time.Duration {
	return time.Duration(d.number(field)) * time.Millisecond
}

func (d *decoder) time(field string) time.Time {
	ms := d.number(field)
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms)).UTC()
}
