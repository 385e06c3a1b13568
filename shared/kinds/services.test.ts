import { expect, test } from "vitest";
import { services } from "./services.ts";

test("units are watched of which a state is declared; of the others, their files", () => {
  const want = services.schema.parse({
    nginx: "running",
    "report.timer": { unit: "[Timer]\nOnCalendar=minutely\n", enabled: true },
    "report.service": { unit: "[Service]\nType=oneshot\n" },
    "rpcbind.socket": "masked",
    cron: { dropIns: { nice: "[Service]\nNice=5\n" } },
    "worker@": { unit: "[Service]\n" },
  });
  const watch = services.watch?.(want);
  expect(watch?.units?.toSorted()).toEqual(["nginx.service", "report.timer", "rpcbind.socket"]);
  expect(watch?.paths?.toSorted()).toEqual(["/etc/systemd/system/cron.service.d/nice.conf", "/etc/systemd/system/report.service", "/etc/systemd/system/report.timer", "/etc/systemd/system/worker@.service"]);
});
