// Package configs is what `sconce serve` can be told: one struct with its
// defaults, the order in which it is filled, and the check that it makes sense.
//
//	defaults  <  the file  <  SCONCE_* in the environment  <  flags
//
// A key of the file is written as a path with dots wherever a person reads it
// ("redis.password_file"), and its environment variable is that path in capitals
// (SCONCE_REDIS_PASSWORD_FILE). Lists of strings are separated by commas there;
// the list of clusters comes from the file alone. Variables that name no key are
// let be, since Kubernetes puts some of its own (SCONCE_SERVICE_HOST) into every pod.
//
// Load reports all faults at once, each with the place it was written, the path
// of the key, what is wrong, and what to write instead. It opens the files that
// the configuration names, to say early that one is missing, and keeps none of
// them: who uses a file reads it. The package knows nothing of what its values
// are for; cmd hands them on.
package configs
