# Two images, one per program: docker build --target replicator|decide --build-arg VERSION=v1.2.3 .
# The last stages hold the program, the certificate authorities and an empty directory that the program's user owns: no shell, no libc, no root.
#
# --build-arg BINARIES=prebuilt takes the programs from bin/image instead of compiling them, so that the images can be built where no base image can be pulled;
# `make images` fills bin/image and does that. It needs BuildKit (DOCKER_BUILDKIT=1 before Docker 23), which skips the stage that is not asked for.
ARG BINARIES=compiled
ARG GO_VERSION=1.26

FROM --platform=$BUILDPLATFORM golang:${GO_VERSION} AS compiled
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=dev
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /out/ ./cmd/replicator ./cmd/decide
RUN cp /etc/ssl/certs/ca-certificates.crt /out/

FROM scratch AS prebuilt
COPY bin/image/ /out/

FROM ${BINARIES} AS programs

FROM scratch AS replicator
ARG VERSION=dev
LABEL org.opencontainers.image.title="everflag replicator" org.opencontainers.image.version=$VERSION org.opencontainers.image.licenses=MIT \
      org.opencontainers.image.description="Keeps a cache in Redis equal to PostHog's flag tables in Postgres"
COPY --from=programs /out/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=programs /out/replicator /replicator
USER 65532:65532
EXPOSE 9464
ENTRYPOINT ["/replicator"]
CMD ["run"]

FROM scratch AS decide
ARG VERSION=dev
LABEL org.opencontainers.image.title="everflag decide" org.opencontainers.image.version=$VERSION org.opencontainers.image.licenses=MIT \
      org.opencontainers.image.description="Answers PostHog's flag API from a cache in Redis, through any outage"
COPY --from=programs /out/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=programs /out/decide /decide
# A volume that is mounted here takes over the owner of this directory: the snapshot file needs a place that survives the container.
COPY --chown=65532:65532 deploy/image/data/ /data/
USER 65532:65532
WORKDIR /data
VOLUME /data
ENV DECIDE_SNAPSHOT_FILE=/data/decide.snapshot
EXPOSE 8000 9465
ENTRYPOINT ["/decide"]
CMD ["serve"]
