/** What a notebook imports, and installing it. */

/** The body of `POST computes/{id}/modules`. */
export interface IModulesRequest {
  /** The text of code cells. */
  sources: string[];
  /** Which kernel there; the usual Python kernel when null. */
  kernelspec?: string | null;
  /** The notebook's, to tell modules that lie beside it. */
  path?: string | null;
}

/** The body of `POST computes/{id}/install`. */
export interface IInstallRequest {
  /** Names, with versions where needed. */
  packages: string[];
  kernelspec?: string | null;
}

/** A module that a notebook imports, as seen from a kernel on a machine. */
export interface IModule {
  name: string;
  /** What to install for it; empty where that is not known, or it is not missing. */
  package: string;
  /** `local`: beside the notebook. */
  state: 'present' | 'missing' | 'local' | 'unknown';
}

export interface IModuleList {
  modules: IModule[];
}
