/** jupyter-collaboration for the servers of some tests; all others run without it. */
import * as fs from "fs";
import * as path from "path";

import { ROOT } from "./processes";

/** Where `make test-ui` puts it; beside the environment of all other tests. */
const INSTALLED = path.join(ROOT, ".stamps", "collaboration");

export const isInstalled = fs.existsSync(path.join(INSTALLED, "done"));

/** The environment of a server that has it. */
export const ENVIRONMENT = {
  PYTHONPATH: INSTALLED,
  JUPYTER_PATH: path.join(INSTALLED, "share", "jupyter"),
  JUPYTER_CONFIG_PATH: path.join(INSTALLED, "etc", "jupyter"),
};
