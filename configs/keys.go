package configs

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// key is one setting that is a single value or a list of strings.
type key struct {
	path  string // "redis.tls.ca"
	value reflect.Value
}

func (k key) env() string {
	return "SCONCE_" + strings.ToUpper(strings.ReplaceAll(k.path, ".", "_"))
}

// keys lists the settings in v, a struct, depth first in the order of its fields.
// Lists of structs have no key: they come from the file alone.
func keys(v reflect.Value, prefix string) []key {
	var out []key
	for i := range v.NumField() {
		path := prefix + name(v.Type().Field(i))
		switch f := v.Field(i); {
		case f.Kind() == reflect.Struct:
			out = append(out, keys(f, path+".")...)
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct:
		default:
			out = append(out, key{path, f})
		}
	}
	return out
}

// name is how a field is written in the file.
func name(f reflect.StructField) string { return f.Tag.Get("yaml") }

func find(all []key, path string) (key, bool) {
	for _, k := range all {
		if k.path == path {
			return k, true
		}
	}
	return key{}, false
}

func paths(all []key) []string {
	out := make([]string, len(all))
	for i, k := range all {
		out[i] = k.path
	}
	return out
}

var (
	errDuration = errors.New(`not a duration: write a number with its unit, such as 150s, 5m or 200ms`)
	errBool     = errors.New(`write true or false`)
	errInt      = errors.New(`write a whole number`)
)

// parseInto reads text as v's type. An empty text empties a list.
func parseInto(v reflect.Value, text string) error {
	switch p := v.Addr().Interface().(type) {
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is %w", text, errDuration)
		}
		*p = d
	case *Size:
		n, err := ParseSize(text)
		if err != nil {
			return fmt.Errorf("%q is %w", text, err)
		}
		*p = n
	case *string:
		*p = text
	case *bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%q: %w", text, errBool)
		}
		*p = text == "true"
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q: %w", text, errInt)
		}
		*p = n
	case *[]string:
		*p = splitList(text)
	default:
		return fmt.Errorf("a %s cannot be set", v.Type())
	}
	return nil
}

func splitList(text string) []string {
	var out []string
	for _, s := range strings.Split(text, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// suggest is `: did you mean "x"?`, or "" when nothing known is near.
func suggest(got string, known []string) string {
	best, at := "", len(got)/2+1
	for _, k := range known {
		if d := distance(got, k); d < at {
			best, at = k, d
		}
	}
	if best == "" {
		return ": see configs/example.yaml for every key"
	}
	return fmt.Sprintf(": did you mean %q?", best)
}

// distance is the number of letters to change, add or drop between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
