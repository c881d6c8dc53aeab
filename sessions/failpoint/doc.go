// Package failpoint is where tests have Sconce die. In a build with the tag
// failpoints,
//
//	SCONCE_FAILPOINT=wake.launched
//
// has the process send itself SIGKILL when it first comes to that point, and
//
//	SCONCE_FAILPOINT=stop:wake.launched
//
// SIGSTOP, once. Which points there are is seen by their names in the code. In any
// other build, and so in every release, Hit is empty. It decides nothing and
// returns nothing: the code around it does the same with it and without.
package failpoint
