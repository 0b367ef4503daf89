#!/bin/bash
# What the official Prometheus image does: the arguments are those of the program.
exec prometheus "$@"
