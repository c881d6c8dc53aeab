# A static binary and nothing else: no shell, no package manager, not root.
#
#   docker build --build-arg VERSION=v1.2.3 -t sconce .
#   docker run -p 8085:8085 -v ./sconce.yaml:/etc/sconce/sconce.yaml:ro sconce
#
# It writes nothing, so the root file system may be read-only.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY auth auth
COPY cmd cmd
COPY configs configs
COPY proto proto
COPY proxy proxy
COPY sessions sessions
ARG TARGETOS TARGETARCH VERSION=dev
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /sconce ./cmd/sconce

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /sconce /sconce
USER 65532:65532
EXPOSE 8085
ENTRYPOINT ["/sconce"]
CMD ["serve", "--config", "/etc/sconce/sconce.yaml"]
