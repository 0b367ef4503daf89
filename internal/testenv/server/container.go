package server

import "context"

func startPostgresContainer(context.Context, PostgresConfig) (*Postgres, error) {
	return nil, &MissingError{What: "Docker", Looked: "x"}
}
func startRedisContainer(context.Context, map[string]string) (*Redis, error) {
	return nil, &MissingError{What: "Docker", Looked: "x"}
}
