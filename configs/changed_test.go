package configs

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

// A change of any key is seen, by its name, and by no other.
func TestChangedSeesEveryKey(t *testing.T) {
	if got := Changed(Default(), Default()); len(got) != 0 {
		t.Errorf("nothing changed: %v", got)
	}
	for _, k := range keys(reflect.ValueOf(Default()).Elem(), "") {
		to := Default()
		field, _ := find(keys(reflect.ValueOf(to).Elem(), ""), k.path)
		switch field.value.Kind() {
		case reflect.String:
			field.value.SetString("another")
		case reflect.Bool:
			field.value.SetBool(!field.value.Bool())
		case reflect.Int, reflect.Int64:
			field.value.SetInt(field.value.Int() + 1)
		case reflect.Slice:
			field.value.Set(reflect.ValueOf([]string{"another"}))
		default:
			t.Fatalf("%s is a %s", k.path, field.value.Kind())
		}
		if got := Changed(Default(), to); !slices.Equal(got, []string{k.path}) {
			t.Errorf("%s changed, and %v is seen", k.path, got)
		}
	}
}

func TestChangedSeesLists(t *testing.T) {
	from, to := Default(), Default()
	from.Clusters, to.Clusters = []Cluster{{Name: "a", Token: "x"}}, []Cluster{{Name: "a", Token: "y"}}
	to.Auth.OIDC = []OIDC{{}}
	to.DrainTimeout, to.Log.Level = time.Second, "debug"
	got := Changed(from, to)
	if want := []string{"auth.oidc", "clusters", "drain_timeout", "log.level"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if want := []string{"auth.oidc", "clusters"}; !slices.Equal(Restart(got), want) {
		t.Errorf("a restart is needed for %v, want %v", Restart(got), want)
	}
}

// What is named as reloadable exists.
func TestReloadableKeysExist(t *testing.T) {
	all := paths(keys(reflect.ValueOf(Default()).Elem(), ""))
	for _, k := range reloadable {
		if !slices.Contains(all, k) {
			t.Errorf("no key %s", k)
		}
	}
}
