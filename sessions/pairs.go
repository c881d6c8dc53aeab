package sessions

import "encoding/json"

// Pairs is a set of keys with values that can be compared with ==, so that a
// Session can: its keys and values as a JSON object, sorted by key. "" = none.
type Pairs string

// NewPairs makes Pairs of a map.
func NewPairs(m map[string]string) Pairs {
	if len(m) == 0 {
		return ""
	}
	text, err := json.Marshal(m) // sorts by key, and knows every map of strings
	if err != nil {
		return ""
	}
	return Pairs(text)
}

// Map returns what NewPairs was given, nil where that was nothing.
func (p Pairs) Map() map[string]string {
	if p == "" {
		return nil
	}
	var m map[string]string
	if json.Unmarshal([]byte(p), &m) != nil {
		return nil
	}
	return m
}

// Has says whether p holds all of want.
func (p Pairs) Has(want map[string]string) bool {
	if len(want) == 0 {
		return true
	}
	have := p.Map()
	for k, v := range want {
		if got, ok := have[k]; !ok || got != v {
			return false
		}
	}
	return true
}
