/** Sizes that a machine could have, as a person looks through them. Pure. */
import { ISizeOffer } from './api';

export interface IOfferFilter {
  text: string;
  withGpu: boolean;
  withoutGpu?: boolean;
}

/** Those that fit, in the server's order. Every word must be in the size's name or its GPU's. */
export function fittingOffers(offers: readonly ISizeOffer[], filter: IOfferFilter): ISizeOffer[] {
  const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
  return offers.filter(({ size }) => {
    const where = `${size.name} ${size.gpu_model ?? ''}`.toLowerCase();
    const hasGpu = !!size.gpus;
    return (
      (!filter.withGpu || hasGpu) &&
      (!filter.withoutGpu || !hasGpu) &&
      words.every(word => where.includes(word))
    );
  });
}
