package configs

import (
	"reflect"
	"slices"
)

// Changed lists the keys whose values differ between two configurations, in the
// order of the fields: "log.level". A list of structs is one key: "clusters".
func Changed(from, to *Config) []string {
	return changed(reflect.ValueOf(from).Elem(), reflect.ValueOf(to).Elem(), "")
}

func changed(from, to reflect.Value, prefix string) (paths []string) {
	for i := range from.NumField() {
		path := prefix + name(from.Type().Field(i))
		a, b := from.Field(i), to.Field(i)
		switch {
		case a.Kind() == reflect.Struct:
			paths = append(paths, changed(a, b, path+".")...)
		case !reflect.DeepEqual(a.Interface(), b.Interface()):
			paths = append(paths, path)
		}
	}
	return paths
}

// reloadable are the keys that a running Sconce takes over. Files that keys name are
// not meant: those are read again by themselves when they change.
var reloadable = []string{"log.level", "drain_timeout", "max_connection_age"}

// Restart lists those of keys that only a restart takes over.
func Restart(keys []string) []string {
	return slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return slices.Contains(reloadable, k) })
}
