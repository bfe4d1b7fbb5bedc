# The production image. Node strips the types from src/, so nothing is compiled: the first stage only installs.
# Build: docker build -t assist-identity .   Run: docker run --env-file .env -e HOST=0.0.0.0 -p 3000:3000 assist-identity
FROM node:26-slim AS install
WORKDIR /app
COPY package.json package-lock.json ./
# Without the optional packages, which are the Node and the Postgres of development.
RUN npm ci --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund

FROM node:26-slim
ENV NODE_ENV=production HOST=0.0.0.0
WORKDIR /app
# Owned by root and read-only for the account that runs it: the service writes nothing to disk.
COPY --from=install /app/node_modules node_modules
COPY package.json LICENSE openapi.yaml ./
COPY migrations migrations
COPY scripts/run.mjs scripts/migrate.ts scripts/
COPY src src
# What every start would have to strip and compile, kept where run.mjs looks for it: by the account and the flags of the
# service, as Node demands, and then out of its reach like the rest.
RUN install -d -o node node_modules/.cache \
  && su node -c 'node --max-semi-space-size=4 --heap-growing-percent=100 --no-parallel-scavenge scripts/run.mjs src/app.ts' \
  && chown -R root: node_modules/.cache && chmod -R a+rX node_modules/.cache
USER node
EXPOSE 3000
# Alive, not ready: a container is not restarted because its database is away. Load balancers ask /readyz.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT || 3000}/healthz`).then(r => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# No shell and no npm in between: SIGTERM reaches the service, which finishes its requests and exits with 0. The flags are
# those of npm start: the heap is collected when it has doubled, and not when it is four times as large.
CMD ["node", "--max-semi-space-size=4", "--heap-growing-percent=100", "--no-parallel-scavenge", "scripts/run.mjs", "src/server.ts"]
