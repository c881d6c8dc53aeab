package sessions

import (
	"errors"
	"fmt"
	"strings"
)

// Cluster is what sessions run on: a Spark Connect server at an address that
// somebody else keeps up, or engines that a Launcher brings up. It is not changed after Clusters was built, so its
// pointer may be compared and kept.
type Cluster struct {
	// Name is what sessions and people call it.
	Name string
	// Address is host:port; "" where there is a Launcher.
	Address string
	// TLS says how its certificate is checked; nil = HTTP/2 without TLS.
	TLS *ClusterTLS
	// Token is the pre-shared token the server asks for; "" = none. It goes out
	// as "authorization: Bearer" and is never logged.
	Token string

	// Launcher brings its engines up; nil = it is an address.
	Launcher Launcher
	// Isolation says whether sessions share an engine; "" = IsolateSession. Only
	// with a Launcher.
	Isolation Isolation
	// NeverRestart: a session whose engine has ended stays failed. Else its next
	// request wakes it.
	NeverRestart bool

	// UIURL is where owners find their engine's web pages, as UI fills it in; "" = as
	// the engine says.
	UIURL string

	// Policy is what its sessions may choose.
	Policy ClusterPolicy
}

// at is the cluster as one of its engines plays it.
func (c *Cluster) at(in *Instance) *Cluster {
	if c.Launcher == nil || in == nil {
		return c
	}
	e := *c
	e.Address, e.Token = in.Address, in.Token
	return &e
}

// Clusters are the configured clusters by name. It is not changed once built.
type Clusters map[string]*Cluster

// NewClusters checks the list (all faults at once) and returns it by name. The files of
// each cluster's TLS are read, and good, from here on.
func NewClusters(list []Cluster) (Clusters, error) {
	cs := make(Clusters, len(list))
	var faults []error
	for i := range list {
		c := list[i]
		switch {
		case c.Name == "":
			faults = append(faults, fmt.Errorf("cluster %d has no name", i+1))
		case (c.Address == "") == (c.Launcher == nil):
			faults = append(faults, fmt.Errorf("cluster %q must have an address or a launcher", c.Name))
		case cs[c.Name] != nil:
			faults = append(faults, fmt.Errorf("cluster %q is named twice", c.Name))
		default:
			cs[c.Name] = &c
			if _, err := c.TLSConfig(); err != nil {
				faults = append(faults, err)
			}
		}
	}
	return cs, errors.Join(faults...)
}

// UI is where the web pages of a session's engine are, "" = nowhere: the engine has
// none, or the session is not active.
func (cs Clusters) UI(s Session) string {
	c := cs[s.Cluster]
	if c == nil || s.State != Active {
		return ""
	}
	var in Instance
	if s.Engine != nil {
		in = *s.Engine
	}
	if c.UIURL == "" {
		return in.UI
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(in.UI, "http://"), ":")
	if port == "" && strings.Contains(c.UIURL, "{port}") {
		return ""
	}
	return strings.NewReplacer("{session}", string(s.ID), "{engine}", in.ID, "{port}", port).Replace(c.UIURL)
}

// Get returns the cluster of that name. The empty name stands for the only
// cluster, where there is just one. ErrNoCluster.
func (cs Clusters) Get(name string) (*Cluster, error) {
	if name == "" && len(cs) == 1 {
		for _, c := range cs {
			return c, nil
		}
	}
	if c := cs[name]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("%w: %q", ErrNoCluster, name)
}
